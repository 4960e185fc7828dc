"use strict";
// Boxes on a picture: by mouse, drawn on it, moved, or pulled at a corner; by keys, comma and dot
// choose a box, arrows move it, shift with arrows moves its right and lower side, insert makes one,
// a class's key names what is chosen, plus and minus zoom.

const Boxes = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST = 3;
  let size = [1, 1];
  let marks = [];
  let at = -1;
  let kinds = [];
  let latest = "";
  let zoom = 1;
  let drag = null;
  let frame = null;
  let layer = null;
  let changed = () => {};

  const copy = (label) => label.map((each) => ({ label: each.label, box: [...each.box], fixed: Boolean(each.fixed) }));
  const round = (value) => Math.round(value * 100) / 100;
  const inside = (value, end) => Math.min(Math.max(value, 0), end);

  function open(source, shownSize, classes, old, whenChanged) {
    [size, kinds, changed, zoom, at, drag] = [shownSize, classes, whenChanged, 1, -1, null];
    marks = copy(old);
    latest = latest && classes.includes(latest) ? latest : classes[0];
    const picture = document.createElement("img");
    picture.alt = "The picture";
    picture.src = source;
    picture.draggable = false;
    layer = document.createElementNS(SVG, "svg");
    layer.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    layer.addEventListener("pointerdown", begin);
    layer.addEventListener("pointermove", go);
    layer.addEventListener("pointerup", end);
    layer.addEventListener("pointercancel", end);
    frame = document.createElement("div");
    frame.id = "picture";
    frame.tabIndex = 0;
    frame.setAttribute("aria-label", "The picture; comma and dot choose a box, arrows move it");
    const sheet = document.createElement("div");
    // Its form is known before the picture comes: what is drawn meanwhile is where it seems to be.
    sheet.style.aspectRatio = `${size[0]} / ${size[1]}`;
    sheet.append(picture, layer);
    frame.append(sheet);
    return frame;
  }

  function place(event) {
    const area = layer.getBoundingClientRect();
    return [
      inside(((event.clientX - area.left) / area.width) * size[0], size[0]),
      inside(((event.clientY - area.top) / area.height) * size[1], size[1]),
    ];
  }

  function begin(event) {
    if (event.button) return;
    event.preventDefault();
    layer.setPointerCapture(event.pointerId);
    const from = place(event);
    const { number, corner } = event.target.dataset;
    if (number === undefined) {
      marks.push({ label: latest, box: [...from, ...from], fixed: false });
      at = marks.length - 1;
      drag = { from, was: [...marks[at].box], corner: "3", made: true };
    } else {
      at = Number(number);
      drag = { from, was: [...marks[at].box], corner, made: false };
    }
    draw();
  }

  function go(event) {
    if (!drag) return;
    const to = place(event);
    const [dx, dy] = [to[0] - drag.from[0], to[1] - drag.from[1]];
    const [left, top, right, bottom] = drag.was;
    if (drag.corner === undefined) {
      shift(drag.was, dx, dy);
    } else {
      const far = Number(drag.corner);
      const x = far % 2 ? [left, right + dx] : [left + dx, right];
      const y = far > 1 ? [top, bottom + dy] : [top + dy, bottom];
      marks[at].box = ordered([x[0], y[0], x[1], y[1]]);
    }
    draw();
  }

  function end() {
    if (!drag) return;
    const [left, top, right, bottom] = marks[at].box;
    if (right - left < LEAST || bottom - top < LEAST) {
      // A click beside all boxes chooses none; a box is never made too small to be seen.
      if (drag.made) {
        marks.splice(at, 1);
        at = -1;
      } else {
        marks[at].box = drag.was;
      }
    }
    drag = null;
    draw();
  }

  function ordered([a, b, c, d]) {
    const x = [inside(a, size[0]), inside(c, size[0])].sort((one, other) => one - other);
    const y = [inside(b, size[1]), inside(d, size[1])].sort((one, other) => one - other);
    return [x[0], y[0], x[1], y[1]].map(round);
  }

  function shift(box, dx, dy) {
    const x = Math.min(Math.max(dx, -box[0]), size[0] - box[2]);
    const y = Math.min(Math.max(dy, -box[1]), size[1] - box[3]);
    marks[at].box = [box[0] + x, box[1] + y, box[2] + x, box[3] + y].map(round);
  }

  function node(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function draw() {
    frame.firstChild.style.width = `${zoom * 100}%`;
    const unit = size[0] / 100;
    const parts = marks.flatMap((mark, number) => {
      const [left, top, right, bottom] = mark.box;
      const box = node("rect", { x: left, y: top, width: right - left, height: bottom - top });
      box.dataset.number = number;
      box.dataset.kind = kinds.indexOf(mark.label) % 6;
      box.classList.toggle("at", number === at);
      const name = node("text", { x: left, y: Math.max(top - unit * 0.6, unit * 2.4), "font-size": unit * 2.4 });
      name.textContent = mark.label;
      const corners = number !== at ? [] : [0, 1, 2, 3].map((corner) => {
        const handle = node("circle", { cx: mark.box[corner % 2 ? 2 : 0], cy: mark.box[corner > 1 ? 3 : 1], r: unit });
        handle.dataset.number = number;
        handle.dataset.corner = corner;
        return handle;
      });
      return [box, name, ...corners];
    });
    layer.replaceChildren(...parts);
    changed(marks);
  }

  function move(event) {
    if (event.key === "+" || event.key === "-") {
      zoom = Math.min(8, Math.max(1, zoom * (event.key === "+" ? 1.5 : 1 / 1.5)));
    } else if (event.key === "," || event.key === ".") {
      if (!marks.length) return false;
      at = event.key === "." ? (at + 1) % marks.length : (at + marks.length - (at < 0 ? 0 : 1)) % marks.length;
    } else if (event.key === "Insert") {
      const [w, h] = [size[0] / 4, size[1] / 4];
      marks.push({ label: latest, box: ordered([w * 1.5, h * 1.5, w * 2.5, h * 2.5]), fixed: false });
      at = marks.length - 1;
    } else {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!steps || at < 0) return false;
      const [dx, dy] = steps.map((step) => (step * size[0]) / 200);
      const box = marks[at].box;
      if (!event.shiftKey) shift(box, dx, dy);
      else if (box[2] + dx - box[0] >= LEAST && box[3] + dy - box[1] >= LEAST) {
        marks[at].box = ordered([box[0], box[1], box[2] + dx, box[3] + dy]);
      }
    }
    draw();
    return true;
  }

  function mark(type) {
    latest = type;
    if (at >= 0) marks[at].label = type;
    draw();
  }

  function clear() {
    if (at < 0) return false;
    marks.splice(at, 1);
    at = Math.min(at, marks.length - 1);
    draw();
    return true;
  }

  function take(label) {
    [marks, at] = [copy(label), -1];
    draw();
  }

  function told(label) {
    const counts = new Map();
    for (const each of label) counts.set(each.label, (counts.get(each.label) || 0) + 1);
    return [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
  }

  return { open, draw, move, mark, clear, take, told, nothing: "no object", value: () => marks };
})();
