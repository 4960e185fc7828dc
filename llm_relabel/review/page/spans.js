"use strict";
// Marking spans of a text: by mouse, drawn over words or from a click to a shift-click; by keys,
// arrows move over the words, shift holds the first one, a type's key marks what is chosen.

const Spans = (() => {
  let text = "";
  let words = [];
  let marks = [];
  let anchor = 0;
  let cursor = 0;
  let drawing = false;
  let kinds = [];
  let changed = () => {};

  const overlap = (one, other) => one.start < other.end && other.start < one.end;
  const bounds = () => [Math.min(anchor, cursor), Math.max(anchor, cursor)];
  const chosen = () => {
    const [first, last] = bounds();
    return words.length ? { start: words[first].start, end: words[last].end } : null;
  };

  // Offsets count characters, as Python does; a script counts an emoji as two.
  const cut = (characters, start, end) => characters.slice(start, end).join("");

  function open(shown, ranges, types, old, whenChanged) {
    const characters = [...shown];
    [text, kinds, changed] = [characters, types, whenChanged];
    marks = old.map(({ start, end, type }) => ({ start, end, type }));
    const parts = [];
    let at = 0;
    words = ranges.map(([start, end], place) => {
      if (start > at) parts.push(cut(characters, at, start));
      at = end;
      const node = document.createElement("span");
      node.className = "word";
      node.textContent = cut(characters, start, end);
      node.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        event.preventDefault();
        if (!event.shiftKey) anchor = place;
        cursor = place;
        drawing = true;
        draw();
      });
      node.addEventListener("pointerenter", () => {
        if (!drawing) return;
        cursor = place;
        draw();
      });
      return { start, end, node };
    });
    if (at < characters.length) parts.push(cut(characters, at));
    let next = 0;
    const line = document.createElement("p");
    line.id = "marked";
    line.dir = "auto";
    line.tabIndex = 0;
    line.setAttribute("aria-label", "The text; arrows move over its words");
    // Words and what is between them, in turn.
    at = 0;
    for (const word of words) {
      if (word.start > at) line.append(parts[next++]);
      line.append(word.node);
      at = word.end;
    }
    line.append(...parts.slice(next));
    anchor = cursor = 0;
    return line;
  }

  function draw() {
    const [first, last] = bounds();
    words.forEach((word, place) => {
      const mark = marks.find((each) => overlap(each, word));
      word.node.classList.toggle("at", place >= first && place <= last);
      word.node.classList.toggle("marked", Boolean(mark));
      if (mark) {
        word.node.dataset.kind = kinds.indexOf(mark.type) % 6;
        word.node.title = mark.type;
      } else {
        delete word.node.dataset.kind;
        word.node.removeAttribute("title");
      }
      word.node.classList.toggle("begins", Boolean(mark) && word.start <= mark.start);
      word.node.dataset.type = mark && word.start <= mark.start ? mark.type : "";
    });
    changed(marks);
  }

  function move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -words.length, End: words.length };
    if (!(event.key in steps) || !words.length) return false;
    cursor = Math.max(0, Math.min(words.length - 1, cursor + steps[event.key]));
    if (!event.shiftKey) anchor = cursor;
    draw();
    words[cursor].node.scrollIntoView({ block: "nearest" });
    return true;
  }

  function mark(type) {
    const own = chosen();
    if (!own) return;
    marks = marks.filter((each) => !overlap(each, own));
    marks.push({ ...own, type });
    marks.sort((one, other) => one.start - other.start);
    anchor = cursor = Math.min(words.length - 1, bounds()[1] + 1);
    draw();
  }

  function clear() {
    const own = chosen();
    const left = marks.filter((each) => !own || !overlap(each, own));
    const any = left.length < marks.length;
    marks = left;
    draw();
    return any;
  }

  function take(other) {
    marks = other.map(({ start, end, type }) => ({ start, end, type }));
    draw();
  }

  const told = (spans) => spans.map((each) => `${each.type} “${cut(text, each.start, each.end)}”`).join(", ");

  addEventListener("pointerup", () => { drawing = false; });
  return { open, draw, move, mark, clear, take, told, nothing: "no entity", value: () => marks };
})();
