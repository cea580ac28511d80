/**
 * The comparison browser's view, an anywidget. comparison.py joins four files without dependencies to one module: studio_looks.js,
 * comparison_numbers.js, comparison_pictures.js and this one.
 */

const EVERYTHING = [0, 0, 1, 1];

/** One view of the model: what the reader sets is kept in the model; everything else is worked out from it. */
class View {
  constructor(model, root, offline) {
    [this.model, this.root, this.offline] = [model, root, offline];
    [this.models, this.categories, this.colours, this.about] = ["models", "categories", "colours", "about"].map(name => model.get(name));
    const kept = model.get("kept");
    this.pack = unpacked(kept);
    this.rules = kept.rules;
    this.bitmaps = new Map();  // index of a frame -> {picture, why}; the picture is missing until it is decoded, and where there is none
    kept.frames.forEach(({index}, k) => this.decode(index, kept.pictures[k].picture, kept.pictures[k].why));
    this.build();
    this.listen();
    this.update();
    if (!offline && this.about.browsed > this.pack.frames.length) this.model.send({kind: "all"});
  }

  get(name) { return this.model.get(name); }

  /** Set a trait; Python hears of it when the hand rests. */
  put(name, value) {
    this.model.set(name, value);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.model.save_changes(), 150);
  }

  /** Least score of model m: one for all, or that of its best F1. */
  least(m) { return Math.fround(this.get("score") ?? this.models[m].best); }

  /** The classes that are shown. */
  get shown() { return new Set(this.get("classes")); }

  /** Keep a frame's picture. */
  decode(index, bytes, why) {
    if (!bytes?.byteLength) return void this.bitmaps.set(index, {why: why || "no picture to show"});
    this.bitmaps.set(index, {why: "the picture is being opened …"});
    createImageBitmap(new Blob([bytes], {type: "image/webp"})).then(picture => this.bitmaps.set(index, {picture}),
      () => this.bitmaps.set(index, {why: "this picture cannot be opened"})).then(() => this.update());
  }

  /** A frame's picture, which Python is asked for when it is not here. */
  pictureOf({index}) {
    if (!this.bitmaps.has(index)) {
      this.bitmaps.set(index, {why: "waiting for Python to send the picture (busy, or no kernel: run the cell again)"});
      this.model.send({kind: "picture", frame: index});
    }
    return this.bitmaps.get(index);
  }

  // ---- what the controls do

  /** Go to another frame of the order, round at the ends. */
  step(by) {
    const {length} = this.order;
    if (length) this.put("frame", this.pack.frames[this.order[(this.order.indexOf(this.place) + by + length) % length]].index);
  }

  /** The least score one step up or down; from the best scores it starts at their mean. */
  nudge(by) { this.put("score", hundredths((this.get("score") ?? this.middle) + by / 100)); }

  get middle() { return this.models.length ? this.models.reduce((sum, {best}) => sum + best, 0) / this.models.length : 0.5; }

  toggle(label) {
    const shown = this.get("classes");
    this.put("classes", shown.includes(label) ? shown.filter(other => other !== label) : [...shown, label].sort((a, b) => a - b));
  }

  everyClass() { this.put("classes", this.categories.map((_, k) => k + 1)); }

  /** All as it was at the start, but for the frame and the order. */
  reset() {
    this.forget();
    this.put("region", EVERYTHING);
    this.put("score", null);
    this.put("only_errors", false);
    this.everyClass();
  }

  /** Show a region, px, on all pictures. */
  zoom(region) {
    const [height, width] = this.pack.frames[this.place].image_hw, [x1, y1, x2, y2] = fitted(region, [height, width]);
    this.put("region", [x1 / width, y1 / height, x2 / width, y2 / height]);
  }

  /** Show the shown part enlarged by a factor, with a point, px, where it is. */
  enlarge(factor, [px, py]) {
    const [x1, y1, x2, y2] = this.part, [height, width] = this.pack.frames[this.place].image_hw;
    const grown = [px - (px - x1) / factor, py - (py - y1) / factor, px + (x2 - px) / factor, py + (y2 - py) / factor];
    if (grown[2] - grown[0] >= width && grown[3] - grown[1] >= height) this.put("region", EVERYTHING);
    else this.zoom(grown);
  }

  // ---- what stands on the page, once

  build() {
    this.classButtons = this.categories.map((name, k) => make("button", {type: "button", title: name, onclick: () => this.toggle(k + 1)},
      swatch(this.colours[k]), make("span", {}, name), ...k < 9 ? [make("kbd", {}, String(k + 1))] : []));
    this.what = make("p", {class: "what"});
    this.notes = make("p", {class: "note", role: "status"});
    this.tip = make("div", {class: "tip", role: "status", hidden: ""});
    this.panels = [-1, ...this.models.keys()].map(m => this.panel(m));
    this.pictures = make("div", {class: "pictures"}, ...this.panels.map(({figure}) => figure));
    const empty = this.emptiness(), chips = [make("span", {class: "lead"}, "Classes"), ...this.classButtons];
    chips.push(make("button", {type: "button", onclick: () => this.everyClass(), title: "key 0"}, "all"));
    this.body = make("div", {id: "comparison"}, this.frameBar(), this.scoreBar(), make("div", {class: "bar"}, make("div", {class: "group chips"},
      ...chips)), this.what, this.notes, ...empty ? [make("p", {class: "empty"}, empty)] : [], legend(), this.pictures, keys(), this.tip);
    this.root.append(this.body);
  }

  /** What is missing altogether. */
  emptiness() {
    if (!this.pack.frames.length) return `${this.about.split} of ${this.about.data} has no frames to show.`;
    if (this.models.length) return "";
    return "No model to compare: give finished runs (train one with `detlib train RUNG`) or detections. Here is the ground truth.";
  }

  frameBar() {
    const button = (text, by, title) => make("button", {type: "button", onclick: () => this.step(by), title}, text);
    this.frameRange = make("input", {type: "range", min: 0, step: 1, "aria-label": "frame", oninput: () =>
      this.put("frame", this.pack.frames[this.order[this.frameRange.value]].index)});
    this.frameNumber = make("span", {class: "lead"});
    const titles = {[WORST]: "lowest F1 of all models together first", [CHANGE]: "most objects that some models find and others miss first"};
    this.orderSelect = make("select", {"aria-label": "order of the frames", onchange: event => this.put("order", event.target.value)},
      ...[IN_ORDER, WORST, CHANGE].map(value => make("option", {value, title: titles[value]}, value)));
    return make("div", {class: "bar"}, button("‹ previous", -1, "left arrow"), make("div", {class: "grow"}, this.frameRange),
      button("next ›", 1, "right arrow"), this.frameNumber, make("div", {class: "group"}, make("label", {}, "Frames"), this.orderSelect));
  }

  scoreBar() {
    this.scoreRange = make("input", {type: "range", class: "score", min: 100 * this.about.least, max: 100, step: 1, "aria-label": "least score",
      oninput: () => this.put("score", hundredths(this.scoreRange.value / 100))});
    this.scoreText = make("span", {class: "readout"});
    const toggle = (text, onclick, title) => make("button", {type: "button", onclick, title}, text);
    this.bestButton = toggle("each at its best", () => this.put("score", this.get("score") === null ? hundredths(this.middle) : null),
      "scores of different models are not on one scale: each is shown at the score where its F1 is highest");
    this.errorButton = toggle("only errors", () => this.put("only_errors", !this.get("only_errors")), "missed objects and false alarms; key e");
    this.wholeButton = toggle("whole picture", () => this.put("region", EVERYTHING), "double-click");
    return make("div", {class: "bar"}, make("div", {class: "group"}, make("span", {class: "lead"}, "Least score"), this.scoreRange, this.bestButton,
      this.scoreText), make("div", {class: "group"}, this.errorButton, this.wholeButton));
  }

  /** The picture of model m (-1: the ground truth), with what it answers to. */
  panel(m) {
    const name = m < 0 ? "ground truth" : this.models[m].name, line = make("span", {class: "line"});
    const canvas = make("canvas", {tabindex: 0, role: "img", "aria-label": name});
    const title = make("b", {}, ...m < 0 ? [] : [swatch(this.models[m].colour)], name);
    const panel = {m, canvas, line, figure: make("figure", {}, make("figcaption", {}, title, line), canvas)};
    const point = event => [this.part[0] + event.offsetX / panel.scale, this.part[1] + event.offsetY / panel.scale];
    canvas.addEventListener("pointermove", event => this.pointed(panel, event, point(event)));
    canvas.addEventListener("pointerdown", event => this.pressed(panel, event, point(event)));
    canvas.addEventListener("pointerup", event => this.released(panel, event));
    canvas.addEventListener("pointercancel", () => this.leaveDrag());
    canvas.addEventListener("pointerleave", () => this.show(null));
    canvas.addEventListener("dblclick", () => this.put("region", EVERYTHING));
    canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey && !event.metaKey) return;  // the page scrolls
      event.preventDefault();
      this.enlarge(event.deltaY < 0 ? 1.25 : 0.8, point(event));
    }, {passive: false});
    return panel;
  }

  // ---- the pointer on a picture

  pressed(panel, event, point) {
    if (event.button || !this.pack.frames.length) return;
    this.down = {point, x: event.clientX, y: event.clientY, part: this.part, moves: event.shiftKey};
    panel.canvas.setPointerCapture(event.pointerId);
  }

  pointed(panel, event, point) {
    if (!this.down) return this.show(itemAt(panel, event.offsetX, event.offsetY), event);
    if (!this.drawing && !this.down.moved && Math.hypot(event.clientX - this.down.x, event.clientY - this.down.y) < 5) return;
    this.show(null);
    this.down.moved = true;
    if (!this.down.moves) this.drawing = [this.down.point, point];
    else {
      const [dx, dy] = [this.down.x - event.clientX, this.down.y - event.clientY].map(by => by / panel.scale), [x1, y1, x2, y2] = this.down.part;
      this.zoom([x1 + dx, y1 + dy, x2 + dx, y2 + dy]);
    }
    this.update();
  }

  released(panel, event) {
    if (!this.down) return;
    const {drawing, down} = this;
    this.leaveDrag();
    if (drawing) this.zoom([0, 1].map(k => Math.min(drawing[0][k], drawing[1][k])).concat([0, 1].map(k => Math.max(drawing[0][k], drawing[1][k]))));
    else if (!down.moved) {
      this.pinned = null;
      this.pinned = this.show(itemAt(panel, event.offsetX, event.offsetY), event);
      this.tip.classList.toggle("pinned", Boolean(this.pinned));
    }
  }

  leaveDrag() {
    this.down = this.drawing = null;
    this.update();
  }

  /** Say what a box is, beside the pointer, and mark its object on all pictures; what was clicked stays. */
  show(item, event) {
    if (this.pinned) return this.pinned;
    if (item?.kind !== this.hot?.kind || item?.o !== this.hot?.o || item?.d !== this.hot?.d || item?.m !== this.hot?.m) this.update();
    this.hot = item ?? null;
    this.tip.classList.remove("pinned");
    this.tip.hidden = !item;
    if (item) {
      this.tip.textContent = described(this, item);
      const {left, top, width} = this.body.getBoundingClientRect(), x = event.clientX - left + 14;
      this.tip.style.left = `${Math.max(0, Math.min(x, width - this.tip.offsetWidth - 4))}px`;
      this.tip.style.top = `${event.clientY - top + 16}px`;
    }
    return this.hot;
  }

  /** What was said of a box holds no longer. */
  forget() {
    this.pinned = this.hot = null;
    this.tip.hidden = true;
  }

  // ---- the model, Python, keys and sizes

  listen() {
    const changed = () => {
      this.forget();
      this.update();
    };
    const names = ["frame", "score", "classes", "only_errors", "order", "region"];
    const told = (message, buffers) => this.told(message, buffers);
    for (const name of names) this.model.on(`change:${name}`, changed);
    this.model.on("msg:custom", told);
    this.root.addEventListener("keydown", event => this.key(event));
    this.sizes = new ResizeObserver(() => this.update());
    this.sizes.observe(this.body);
    this.leave = () => {
      for (const name of names) this.model.off(`change:${name}`, changed);
      this.model.off("msg:custom", told);
      this.sizes.disconnect();
      this.gone = true;
    };
  }

  /** What Python sends: all frames, or a picture. */
  told(message, buffers) {
    if (message.kind === "picture") this.decode(message.frame, buffers[0], message.why);
    if (message.kind === "all") {
      const columns = Object.fromEntries(message.names.map((name, k) => [name, buffers[k]]));
      this.pack = unpacked({...columns, frames: message.frames, edges: message.edges});
      this.forget();
    }
    this.update();
  }

  /** Keys; none of them is a shortcut of the notebook. */
  key(event) {
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const side = {ArrowRight: 1, ArrowLeft: -1}[event.key], level = {"+": 1, "=": 1, "-": -1, "_": -1}[event.key];
    if (side && event.target === this.scoreRange) this.nudge(side);
    else if (side && event.target !== this.orderSelect) this.step(side);
    else if (level) this.nudge(level);
    else if (event.key === "e") this.put("only_errors", !this.get("only_errors"));
    else if (event.key === "0") this.everyClass();
    else if (/^[1-9]$/.test(event.key) && event.key <= this.categories.length) this.toggle(Number(event.key));
    else if (event.key === "Escape") this.reset();
    else return;
    event.preventDefault();
  }

  // ---- the picture

  /** Draw before the next frame of the screen; however many changes come, once. */
  update() {
    if (this.pending || this.gone) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      if (!this.gone) this.draw();
    });
  }

  draw() {
    const page = this.pictures.clientWidth;
    if (page < 60) return;  // hidden, or not laid out yet; when it is, its new size calls again
    const leasts = this.models.map((_, m) => this.least(m));
    this.count(leasts);
    this.place = this.nearest(this.get("frame"));
    this.showControls();
    if (this.pack.frames.length) {
      this.outcomes = leasts.map((least, m) => outcomeOf(this.pack, m, this.place, least, this.shown));
      const [height, width] = this.pack.frames[this.place].image_hw, [x1, y1, x2, y2] = this.get("region");
      this.part = [x1 * width, y1 * height, x2 * width, y2 * height];
      const layout = layoutOf(page, (this.part[2] - this.part[0]) / (this.part[3] - this.part[1]), this.panels.length);
      this.pictures.style.gridTemplateColumns = `repeat(${layout.columns},minmax(0,1fr))`;
      for (const panel of this.panels) drawPanel(this, panel, layout.width, layout.height);
      this.showCaptions();
    }
    this.pictures.hidden = !this.pack.frames.length;
    this.drawn = (this.drawn ?? 0) + 1;
    this.root.host.dataset.drawn = this.drawn;  // how often, for whoever measures
  }

  /** Order the frames and count on all of them, where what that depends on has changed. */
  count(leasts) {
    const key = [this.pack.frames.length, this.get("order"), this.get("classes"), leasts].join("|");
    if (key === this.counted) return;
    this.counted = key;
    this.order = ordered(this.pack, this.get("order"), leasts, this.shown);
    this.counts = leasts.map((least, m) => countsOf(this.pack, m, least, this.shown));
  }

  /** The place of a frame in the pack, or of the one nearest to it. */
  nearest(index) {
    return this.pack.frames.reduce((best, frame, n) => Math.abs(frame.index - index) < Math.abs(this.pack.frames[best].index - index) ? n : best, 0);
  }

  showControls() {
    const {frames} = this.pack, score = this.get("score"), at = this.order.indexOf(this.place), frame = frames[this.place];
    this.frameRange.max = Math.max(0, frames.length - 1);
    this.frameRange.value = at;
    this.frameRange.disabled = frames.length < 2;
    this.frameNumber.textContent = frames.length ? `${at + 1} of ${whole(frames.length)}` : "no frames";
    this.orderSelect.value = this.get("order");
    this.scoreRange.value = 100 * (score ?? this.middle);
    this.scoreRange.style.opacity = score === null ? 0.45 : 1;
    this.scoreText.textContent = score === null ? "the score of each model’s best F1" : `${fixed(score, 2)} for all models`;
    this.bestButton.setAttribute("aria-pressed", score === null);
    this.errorButton.setAttribute("aria-pressed", this.get("only_errors"));
    this.wholeButton.setAttribute("aria-disabled", this.get("region").join() === EVERYTHING.join());
    this.classButtons.forEach((button, k) => button.setAttribute("aria-pressed", this.shown.has(k + 1)));
    if (!frame) return;
    const objects = objectsOf(this.pack, this.place, this.shown).length, rule = this.rules[frame.index];
    this.what.replaceChildren(make("b", {}, frame.name), make("span", {}, ` frame ${frame.index} of ${this.about.split}, ${this.about.data}; `
      + `${objects} object${objects === 1 ? "" : "s"}.${rule ? ` ${rule}.` : ""}`));
    this.notes.textContent = this.note();
  }

  /** What is left out, where something is. */
  note() {
    const {length} = this.pack.frames, {browsed, frames, split} = this.about, parts = [];
    if (length < browsed) parts.push(this.offline ? `This page keeps ${length} of the ${whole(frames)} frames of ${split}; the notebook shows all.`
      : `${length} of ${whole(browsed)} frames so far: Python sends the others when this cell is run.`);
    else if (browsed < frames) parts.push(`${whole(browsed)} of the ${whole(frames)} frames of ${split} are shown.`);
    const cut = this.models.filter(({cut}, m) => this.least(m) <= cut).map(({name}) => name);
    if (cut.length) parts.push(`Of ${cut.join(", ")} only the 100 best detections of a frame are shown and counted.`);
    return parts.join(" ");
  }

  /** What each model found, missed and invented on this frame, and on all that can be chosen. */
  showCaptions() {
    const {length} = this.pack.frames, {frames} = this.about, part = length < frames && this.get("score") === null
      && this.shown.size === this.categories.length;  // what is known of all frames is known for the best scores and all classes
    for (const {m, line} of this.panels) {
      if (m < 0) {
        line.textContent = this.get("only_errors") && this.models.length ? "the objects that at least one model missed" : "";
        continue;
      }
      const all = added(this.counts[m]), none = this.pack.edges[m][0] === this.pack.edges[m][length];
      const parts = [this.models[m].seed, none ? "no detections" : `score ≥ ${fixed(this.least(m), 2)}`, said(this.counts[m][this.place])];
      if (length > 1) parts.push(`${whole(length)} frames: ${said(all)} · F1 ${fixed(f1Of(all), 2)}`
        + (part ? ` (all ${whole(frames)}: ${fixed(this.models[m].f1, 2)})` : ""));
      line.replaceChildren(...parts.filter(Boolean).map(part => make("span", {}, part)));
    }
  }
}

const hundredths = value => Math.round(100 * Math.min(1, Math.max(0, value))) / 100;

const said = ({found, missed, wrong}) =>
  `${whole(found)} found · ○ ${whole(missed)} missed · × ${whole(wrong)} false alarm${wrong === 1 ? "" : "s"}`;

/** What lines and marks mean. */
function legend() {
  const sample = (dash, mark) => make("svg", {width: 34, height: 14, viewBox: "0 0 34 14", "aria-hidden": "true"},
    make("path", {d: "M10 2H33V13H10z", fill: "none", stroke: INK, "stroke-width": 2, "stroke-dasharray": dash.join(" ")}), ...mark);
  const disc = make("path", {d: "M0 6a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z", fill: INK});
  const glyph = d => make("path", {d, fill: "none", stroke: "#fff", "stroke-width": 1.8});
  return make("div", {class: "legend"},
    make("span", {}, sample(DASHES.found, []), "found: right class, IoU at least 0.5"),
    make("span", {}, sample(DASHES.missed, [disc, glyph("M3.2 6a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0 -5.6 0z")]), "missed object"),
    make("span", {}, sample(DASHES.wrong, [disc.cloneNode(), glyph("M3.4 3.4L8.6 8.6M3.4 8.6L8.6 3.4")]), "false alarm"),
    make("span", {}, "colours: classes; white frame: the object that you point at, on every picture"));
}

/** What keys and pointer do. */
function keys() {
  const all = [["← →", "frame"], ["+ −", "score"], ["e", "errors"], ["1 … 9", "classes"], ["0", "all classes"], ["Esc", "as at the start"],
    ["drag", "zoom in"], ["Ctrl wheel", "zoom"], ["Shift drag", "move"], ["double-click", "whole picture"], ["click", "keep what is said of a box"]];
  return make("div", {class: "keys"}, ...all.map(([names, does]) =>
    make("span", {}, ...names.split(" ").map(name => make("kbd", {}, name)), ` ${does}`)));
}

/** Draw the browser into `el`; `offline` in a page without Python. */
function render({model, el, offline = false}) {
  const host = make("div", {class: "comparison-browser", "data-lm-suppress-shortcuts": "true"}), root = host.attachShadow({mode: "open"});
  root.append(make("style", {}, CSS + MORE_CSS));
  el.append(host);
  const view = new View(model, root, offline);
  return () => view.leave();
}

export default {render};
