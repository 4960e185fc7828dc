"use strict";
// Text of the data is only ever set as textContent. What is on the page can be lost at any time:
// an answer counts when the server has it on disk, and the next item comes with that reply.

const $ = (id) => document.getElementById(id);
const KEYS = "123456789abcdefghijklmopqrtvwxyz"; // without n, s, u, which are actions
const kept = `review ${location.pathname}`;
// A tab remembers which item it showed, what it put off, and notes not yet saved.
const tab = Object.assign({ keep: null, skipped: [], notes: {} }, JSON.parse(sessionStorage.getItem(kept) || "{}"));

let setup = null;
let page = null;
let chosen = new Set();
let busy = false;
let widget = null; // where labels are marked on the item: Spans or Boxes

const remember = () => sessionStorage.setItem(kept, JSON.stringify(tab));

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function tell(text, bad = false) {
  $("told").textContent = text;
  $("told").classList.toggle("bad", bad);
}

async function ask(path, said) {
  const options = said && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...said, skipped: tab.skipped }) };
  const reply = await fetch(path, options);
  const found = (reply.headers.get("Content-Type") || "").includes("json") ? await reply.json() : { error: await reply.text() };
  if (!reply.ok && reply.status !== 409) throw new Error(found.error);
  return [found, reply.status];
}

// One request at a time: a key held or pressed twice must not answer the next item unseen.
async function during(work) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    const lost = error instanceof TypeError;
    tell(lost ? "Not saved: the server does not answer. Start it again, then repeat." : `Not saved: ${error.message}`, true);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function show(found) {
  page = found;
  const item = page.item;
  $("count").textContent = `${page.done} of ${page.total} answered` + (page.skipped ? `, ${page.skipped} skipped` : "");
  $("bar").max = Math.max(page.total, 1);
  $("bar").value = page.done;
  tab.keep = item && item.id;
  const marked = item && widget;
  const parts = item
    ? item.fields.flatMap(([name, text]) => [make("h2", {}, name), make("p", { dir: "auto" }, text)])
    : [make("p", { class: "end" }, `All ${page.total} items are answered. You may close this page; running the job again decides with your answers.`)];
  const was = item && item.was;
  if (marked) {
    const old = was && was.answer ? was.answer : [];
    const kinds = setup.labels.map((label) => label.name);
    const changed = (marks) => {
      $("marks").textContent = marks.length ? `Marked: ${widget.told(marks)}` : "Nothing is marked.";
    };
    // The first field is what is marked; the others are there to understand it.
    if (setup.widget === "spans") parts[1] = Spans.open(item.fields[0][1], item.words, kinds, old, changed);
    else parts.unshift(Boxes.open(`picture/${encodeURIComponent(item.id)}`, item.size, kinds, old, changed));
  }
  $("fields").replaceChildren(...parts);
  $("how").hidden = !(marked && setup.widget === "spans");
  $("how-boxes").hidden = !(marked && setup.widget === "boxes");
  $("marks").hidden = !marked;
  if (marked) widget.draw();
  const candidates = (item && item.candidates) || [];
  $("candidates").hidden = candidates.length === 0;
  $("candidates").querySelector("ul").replaceChildren(...candidates.map(candidate));
  chosen = new Set(was && !was.unsure && !marked ? [].concat(was.answer) : []);
  $("was").hidden = !was;
  if (was) $("was").textContent = `Taken back. You had said: ${was.unsure ? "unsure" : words(was.answer) || nothing()}`;
  if (was && was.note && !(item.id in tab.notes)) tab.notes[item.id] = was.note;
  $("note").value = (item && tab.notes[item.id]) || "";
  $("note-box").hidden = !$("note").value;
  for (const id of ["save", "none", "unsure", "skip", "note-button"]) $(id).disabled = !item;
  $("filter").value = "";
  filter();
  mark();
  remember();
  $("item").scrollTop = 0;
  scrollTo(0, 0);
  $("item").focus({ preventScroll: true });
}

const keyed = (key, name) => make("span", { class: "keyed" }, ...(key ? [make("kbd", {}, key)] : []), make("span", { class: "name" }, name));

const nothing = () => (widget ? widget.nothing : "no label applies");
const words = (label) => (widget ? widget.told(label) : [].concat(label).join(", "));

// A label that is shown as a candidate, or a set of them; choosing it is choosing its labels.
function candidate(label) {
  const button = make("button", { type: "button" });
  if (widget) {
    button.append(make("span", { class: "name" }, words(label) || nothing()));
    button.addEventListener("click", () => widget.take(label));
    return make("li", {}, button);
  }
  const names = [].concat(label);
  for (const name of names) {
    const place = setup.labels.findIndex((each) => each.name === name);
    button.append(keyed(place < KEYS.length ? KEYS[place].toUpperCase() : null, name));
  }
  if (!names.length) button.append(keyed("0", "no label applies"));
  button.addEventListener("click", () => {
    if (setup.exclusive) return choose(label);
    if (!names.length) return answer({ answer: [] }, "no label applies");
    chosen = new Set(names);
    mark();
  });
  return make("li", {}, button);
}

function mark() {
  for (const button of $("labels").querySelectorAll("button")) {
    button.disabled = !page.item;
    button.setAttribute("aria-pressed", chosen.has(button.value));
  }
}

const answer = (said, words) => during(async () => {
  if (!page.item) return;
  const id = page.item.id;
  const [found, status] = await ask("answer", { id, seen: page.item.seen, note: $("note").value, ...said });
  if (status === 409) {
    show(found);
    tell("That item was changed in another tab, and this answer was not taken. Here is the next one.", true);
    return;
  }
  delete tab.notes[id];
  tab.skipped = tab.skipped.filter((each) => each !== id);
  show(found);
  tell(`Saved: ${words}`);
});

function choose(name) {
  if (!page.item) return;
  if (setup.exclusive) {
    answer({ answer: name }, name);
    return;
  }
  if (widget) return widget.mark(name);
  chosen.has(name) ? chosen.delete(name) : chosen.add(name);
  mark();
}

function save() {
  if (setup.exclusive) return;
  if (widget) {
    const marks = widget.value();
    if (marks.length) return answer({ answer: marks }, widget.told(marks));
    return tell(`Nothing is marked. Press 0 where there is ${nothing()}.`, true);
  }
  const names = setup.labels.map((label) => label.name).filter((name) => chosen.has(name));
  if (names.length) answer({ answer: names }, names.join(", "));
  else tell("Nothing is chosen. Press 0 where no label applies.", true);
}

const skip = () => during(async () => {
  if (!page.item) return;
  const id = page.item.id;
  tab.skipped = [...tab.skipped.filter((each) => each !== id), id];
  let [found] = await ask("next", {});
  // Only skipped ones are left: they come round again, the one put off last at the end.
  if (found.item && tab.skipped.includes(found.item.id)) {
    [found] = await ask("next", { keep: tab.skipped[0] });
    tell("Only skipped items are left.");
  } else tell("Skipped; it comes again at the end.");
  show(found);
});

const undo = () => during(async () => {
  const [found] = await ask("undo", { keep: tab.keep });
  show(found);
  tell(found.item && found.item.was ? "Undone; answer it again." : "There is nothing to undo.");
});

function note() {
  if (!page.item) return;
  $("note-box").hidden = false;
  $("note").focus();
}

const visible = () => [...$("labels").children].filter((row) => !row.hidden);

function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of $("labels").children) {
    row.hidden = !words.every((word) => row.dataset.words.includes(word));
    row.classList.remove("first");
  }
  const left = visible();
  $("no-match").hidden = left.length > 0;
  if (words.length && left.length) left[0].classList.add("first");
}

function moveFirst(step) {
  const left = visible();
  if (!left.length) return;
  const place = left.findIndex((row) => row.classList.contains("first"));
  left.forEach((row) => row.classList.remove("first"));
  const next = left[(place + step + left.length) % left.length];
  next.classList.add("first");
  next.scrollIntoView({ block: "nearest" });
}

function inFilter(event) {
  if (event.key === "Enter") {
    const first = $("labels").querySelector("li.first:not([hidden])");
    if (!first) return;
    event.preventDefault();
    choose(first.querySelector("button").value);
    $("filter").value = "";
    filter();
    $("item").focus({ preventScroll: true });
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveFirst(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape") {
    $("filter").value = "";
    filter();
    $("item").focus({ preventScroll: true });
  }
}

const ACTIONS = { s: skip, u: undo, n: note, "?": () => answer({ unsure: true }, "unsure") };

document.addEventListener("keydown", (event) => {
  if (!page || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === $("filter")) return inFilter(event);
  if (event.target === $("note")) {
    if (event.key === "Escape") $("item").focus({ preventScroll: true });
    return;
  }
  if (widget && page.item && widget.move(event)) return event.preventDefault();
  if (event.repeat) return;
  const key = event.key.toLowerCase();
  const label = key.length === 1 ? setup.labels[KEYS.indexOf(key)] : undefined;
  let act = null;
  if (key in ACTIONS) act = ACTIONS[key];
  else if (key === "/" && !$("filter").hidden) act = () => $("filter").focus();
  else if (key === "0" && !setup.exclusive) act = () => answer({ answer: [] }, nothing());
  else if (key === "enter" && !setup.exclusive && !event.target.closest("#actions, summary")) act = save;
  else if (widget && (key === "backspace" || key === "delete")) act = widget.clear;
  else if (label) act = () => choose(label.name);
  if (!act) return;
  event.preventDefault();
  act();
});

function row(label, place) {
  const button = make("button", { type: "button", value: label.name, "aria-pressed": "false" });
  if (place < KEYS.length) button.append(make("kbd", {}, KEYS[place].toUpperCase()));
  else button.append(make("span", {}));
  button.append(make("span", { class: "name" }, label.name), make("span", { class: "about" }, label.definition));
  button.addEventListener("click", () => choose(label.name));
  const made = make("li", {}, button);
  made.dataset.words = `${label.name} ${label.definition} ${label.parent || ""}`.toLowerCase();
  if (label.examples.length || label.not.length) {
    const list = (texts) => make("ul", {}, ...texts.map((text) => make("li", { dir: "auto" }, text)));
    const details = make("details", {}, make("summary", {}, "Examples"));
    if (label.examples.length) details.append(list(label.examples));
    if (label.not.length) details.append(make("p", {}, `Not ${label.name}:`), list(label.not));
    made.append(details);
  }
  return made;
}

$("filter").addEventListener("input", filter);
$("note").addEventListener("input", () => {
  tab.notes[page.item.id] = $("note").value;
  remember();
});
for (const [id, act] of [["save", save], ["none", () => answer({ answer: [] }, nothing())], ["unsure", ACTIONS["?"]], ["skip", skip], ["undo", undo], ["note-button", note]]) $(id).addEventListener("click", () => page && act());

// Back from another tab or from sleep: what is shown may have been answered meanwhile.
addEventListener("focus", () => during(async () => {
  if (!page) return;
  const [found] = await ask("next", { keep: tab.keep });
  const item = page.item;
  if (!item || !found.item || found.item.id !== item.id || found.item.seen !== item.seen) show(found);
}));

during(async () => {
  [setup] = await ask("setup");
  document.title = document.querySelector("h1").textContent = setup.title;
  $("who").textContent = `as ${setup.reviewer}`;
  $("instruction").textContent = setup.instruction;
  $("filter").hidden = setup.labels.length <= 9;
  $("save").hidden = $("none").hidden = setup.exclusive;
  widget = { spans: Spans, boxes: Boxes }[setup.widget] || null;
  if (widget) $("none").lastChild.textContent = ` ${widget.nothing[0].toUpperCase()}${widget.nothing.slice(1)}`;
  $("labels").replaceChildren(...setup.labels.map(row));
  const [found] = await ask("next", { keep: tab.keep });
  show(found);
});
