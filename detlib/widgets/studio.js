/**
 * The anchor studio's view, an anywidget. studio.py joins four files without dependencies to one module: studio_numbers.js, studio_looks.js,
 * studio_pictures.js and this one.
 */

/** One view of the model: what the reader sets is kept in the model; everything else is worked out from it. */
class View {
  constructor(model, root, offline) {
    [this.model, this.root, this.offline] = [model, root, offline];
    this.categories = model.get("categories");
    this.sets = model.get("sets");
    this.inChannels = model.get("in_channels");
    const view = model.get("boxes"), labels = model.get("labels");
    this.boxes = new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    this.labels = new Uint16Array(labels.buffer.slice(labels.byteOffset, labels.byteOffset + labels.byteLength));
    this.frames = model.get("frames");
    this.spec = model.get("spec");
    this.splits = model.get("splits").map(split => this.counted(split));
    [this.past, this.future, this.references, this.pictures] = [[], [], {}, {}];
    this.given = new Set(Object.keys(this.sets));  // names of sets that are not the reader's own: what is edited has another name
    this.build();
    this.listen();
    this.update();
  }

  /** A split with its boxes, labels and coverage. */
  counted({name, start, stop, image_hw, note}) {
    const boxes = this.boxes.subarray(4 * start, 4 * stop), labels = this.labels.subarray(start, stop);
    return {name, start, image_hw, note, boxes, labels, found: new Coverage(this.spec.strides, boxes, image_hw)};
  }

  get(name) { return this.model.get(name); }

  /** Set a trait; Python hears of it when the hand rests. */
  put(name, value) {
    this.model.set(name, value);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => this.model.save_changes(), 150);
  }

  /** [level, shape] chosen, within what there is. */
  get chosen() {
    const k = Math.min(this.get("level"), this.spec.shapes.length - 1);
    return [k, Math.min(this.get("shape"), this.spec.shapes[k].length - 1)];
  }

  /** Take changed shapes; what one gesture changes is one step of undo. */
  edit(shapes, gesture) {
    const now = performance.now();
    if (gesture !== this.gesture || now - this.edited > 1000) this.remember();
    [this.gesture, this.edited] = [gesture, now];
    const name = this.spec.name;
    this.spec = {...this.spec, name: this.given.has(name) ? name.replace(/(-edited)?$/, "-edited") : name, shapes};
    this.put("spec", this.spec);
    this.update();
  }

  /** Replace the chosen shape. */
  move(shape, gesture) {
    const [k, a] = this.chosen, sides = shape.map(side => Math.max(1, hundredth(side)));
    this.edit(this.spec.shapes.map((level, l) => l === k ? level.map((old, n) => n === a ? sides : old) : level), gesture);
  }

  /** Another whole set: one of those by name, one from Python, or one of the past. */
  take(spec) {
    [this.spec, this.gesture] = [spec, null];
    this.put("spec", spec);
    this.update();
  }

  remember() {
    this.past.push(this.spec);
    this.future = [];
  }

  /** Undo (from the past) or redo (from the future). */
  travel(from, to, what) {
    if (!from.length) return this.say(`Nothing to ${what}.`);
    to.push(this.spec);
    this.take(from.pop());
  }

  choose(level, shape) {
    this.put("level", level);
    this.put("shape", shape);
  }

  /** Add a shape to the chosen level: [w, h] px, else the median of the boxes that no anchor covers. */
  add(shape) {
    const [k, a] = this.chosen, level = this.spec.shapes[k];
    const added = (shape ?? this.missing() ?? level[a].map(side => side * 1.2)).map(hundredth);
    this.edit(this.spec.shapes.map((old, l) => l === k ? [...old, added] : old), null);
    this.choose(k, level.length);
    this.say(`Added ${added.map(pixels).join(" × ")} px at stride ${this.spec.strides[k]}.`);
  }

  remove() {
    const [k, a] = this.chosen;
    if (this.spec.shapes[k].length === 1) return this.say("A level keeps at least one shape: its head has a channel for it.");
    this.edit(this.spec.shapes.map((old, l) => l === k ? old.filter((_, n) => n !== a) : old), null);
    this.choose(k, Math.max(0, a - 1));
  }

  /** Median [w, h] px of the first split's boxes below the threshold; undefined if there are none. */
  missing() {
    const {found, labels} = this.splits[0], least = f(this.get("threshold")), category = this.get("category");
    const missed = Array.from(found.iou.keys()).filter(i => found.iou[i] < least && (!category || labels[i] === category));
    return missed.length ? [median(missed.map(i => found.w[i])), median(missed.map(i => found.h[i]))] : undefined;
  }

  /** Coverage of the set that the numbers are compared with, for each split. */
  reference() {
    const name = this.get("reference"), spec = this.sets[name];
    this.references[name] ??= this.splits.map(split => new Coverage(spec.strides, split.boxes, split.image_hw).update(spec.shapes).iou);
    return this.references[name];
  }

  /** Improve the set from where it is: shape after shape, in steps that halve, a shape a picture; pressed again, it stops. */
  async improve() {
    if (this.improving) return void (this.improving = false);
    if (!this.splits[0].boxes.length) return this.say("No boxes to improve on.");
    const {found, labels, name} = this.splits[0], score = () => recall(found.iou, labels, this.categories.length, this.get("threshold"))[0].recall;
    const before = score();
    this.remember();
    this.improving = true;
    this.gesture = "improve";
    for (const step of [0.16, 0.08, 0.04, 0.02]) {
      for (const [s, [k, a]] of this.spec.shapes.flatMap((level, l) => level.map((_, n) => [l, n])).entries()) {
        if (!this.improving) break;
        const shape = improved(found, s, this.spec.shapes[k][a], step, this.get("threshold"));
        this.edited = performance.now();
        this.edit(this.spec.shapes.map((level, l) => l === k ? level.map((old, n) => n === a ? shape : old) : level), "improve");
        this.say(`Improving on ${name}, steps of ${Math.round(step * 100)} % … press again to stop.`);
        await new Promise(requestAnimationFrame);
        if (this.gesture !== "improve" || this.gone) this.improving = false;  // another hand moved something
      }
    }
    this.improving = false;
    this.gesture = null;
    this.update();
    this.say(`Recall on ${name} from ${fixed(before)} to ${fixed(score())}; one step of undo.`);
  }

  /** Ask Python to fit; it answers with a new set and a sentence. */
  fit() {
    if (this.offline) return this.say("Fitting runs in Python: open the notebook and run its cells. “Improve” works here.");
    if (this.asked) return;
    this.asked = true;
    setTimeout(() => this.asked && this.say("Python does not answer yet: it is busy, or no kernel is running (run the cells again)."), 20_000);
    this.say(`Python is fitting to all boxes of ${this.splits[0].name} …`);
    this.send({kind: "fit"});
  }

  /** Send a request, after what it is about. */
  send(message) {
    clearTimeout(this.saving);
    this.model.save_changes();
    this.model.send(message);
  }

  /** Keep the set in a file that `detlib.fitting.from_json` reads. */
  save() {
    if (!this.offline) return this.send({kind: "save"});
    const {name, strides, shapes} = this.spec, file = `${name.replace(/[^\w.-]+/g, "_") || "anchors"}.json`;
    const url = URL.createObjectURL(new Blob([JSON.stringify({name, strides, shapes, about: this.get("about")}, null, 1) + "\n"]));
    make("a", {href: url, download: file}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    this.say(`Downloaded ${file}.`);
  }

  /** Copy text; where the browser does not allow it, show it, selected. */
  async copy(text, what) {
    this.text.value = text;
    try {
      await navigator.clipboard.writeText(text);
      this.text.hidden = true;
      this.say(`Copied ${what}.`);
    } catch {  // no permission, or an old browser
      this.text.hidden = false;
      this.text.select();
      this.say(`Here is ${what}: copy it with Ctrl+C.`);
    }
  }

  say(text) { this.said.textContent = text; }

  // ---- controls

  /** All that stands on the page, once. */
  build() {
    this.said = make("div", {class: "said", role: "status", "aria-live": "polite"});
    this.text = make("textarea", {hidden: "", readonly: "", "aria-label": "text to copy", spellcheck: "false"});
    const button = (text, onclick, title) => make("button", {type: "button", onclick, title}, text);
    this.setButtons = Object.keys(this.sets).map(name => button(name, () => {
      this.remember();
      this.put("reference", name);
      this.take(this.sets[name]);
    }, `start again from the ${name} anchors, and compare with them`));
    this.improveButton = button("Improve", () => this.improve(), `move every shape uphill from where it is, on ${this.splits[0].name}`);
    this.fitButton = button("Fit", () => this.fit(), this.offline ? "not in a saved page: fitting runs in Python"
      : `detlib.fitting.fit in Python: as many shapes on each level as now, found anew on all boxes of ${this.splits[0].name}`);
    if (this.offline) this.fitButton.setAttribute("aria-disabled", "true");
    this.undoButton = button("Undo", () => this.travel(this.past, this.future, "undo"), "Ctrl+Z");
    this.redoButton = button("Redo", () => this.travel(this.future, this.past, "redo"), "Ctrl+Shift+Z");
    this.nameInput = make("input", {type: "text", "aria-label": "name of the set", spellcheck: "false", maxlength: 60, onchange: () => {
      this.remember();
      this.take({...this.spec, name: this.nameInput.value.trim() || "studio"});
    }});
    const saveTitle = `${this.offline ? "download NAME.json" : "write outputs/anchors/NAME.json"}, which detlib.fitting.from_json reads`;
    const toolbar = make("div", {class: "bar"},
      make("div", {class: "group"}, make("span", {class: "lead"}, "Start from"), ...this.setButtons),
      make("div", {class: "group"}, this.improveButton, this.fitButton),
      make("div", {class: "group"}, this.undoButton, this.redoButton),
      make("div", {class: "group"}, make("span", {class: "lead"}, "Name"), this.nameInput, button("Save", () => this.save(), saveTitle),
        button("Copy code", () => this.copy(code(this.spec), "the AnchorSpec"), "the AnchorSpec(…) to paste into a cell"),
        button("Copy list", () => this.copy(listing(this.spec), "the list"), "the shapes as plain text")));
    this.numbers = make("div", {class: "numbers"});
    this.root.append(make("div", {id: "studio"}, toolbar, this.said, this.text, this.numbers, this.selectors(), this.panels(), this.table()));
    this.say("Drag a mark in the cloud, or move a slider: pictures and numbers follow.");
  }

  /** Frame, class, split and threshold. */
  selectors() {
    const select = (options, name, label, type) => make("select", {"aria-label": label, onchange: event => this.put(name, type(event.target.value))},
      ...options.map(([value, text]) => make("option", {value}, text)));
    const title = frame => `${this.splits[frame.split].name}: ${frame.name.split("/").pop().replace(/\.\w+$/, "")}`;
    this.frameSelect = select(this.frames.map((frame, n) => [n, title(frame)]), "frame", "frame", Number);
    this.frameSelect.style.width = "280px";
    this.categorySelect = select([[0, "all classes"], ...this.categories.map((name, n) => [n + 1, name])], "category", "class", Number);
    const names = this.splits.map(({name}) => [name, name]);
    this.splitSelect = select(names.length > 1 ? [["all", "all splits"], ...names] : [["all", names[0][0]]], "split", "cloud of", String);
    this.thresholdSlider = this.slider("IoU threshold", [0.1, 0.95], value => this.put("threshold", hundredth(value)), false);
    this.thresholdSlider.range.style.width = "110px";
    return make("div", {class: "bar"},
      make("div", {class: "group"}, make("label", {}, "Frame"), this.frameSelect),
      make("div", {class: "group"}, make("label", {}, "Class"), this.categorySelect),
      make("div", {class: "group"}, make("label", {}, "Cloud of"), this.splitSelect),
      make("div", {class: "group"}, make("label", {}, "IoU threshold"), this.thresholdSlider.range, this.thresholdSlider.input));
  }

  /** Canvases, and the panel of levels, shapes and sliders. */
  panels() {
    this.canvas = {};
    this.title = {};
    this.legend = {};
    const cell = (name, label, title, keydown) => {
      this.canvas[name] = make("canvas", {tabindex: 0, role: "application", "aria-label": label, onkeydown: keydown});
      this.title[name] = make("h4", {}, title);
      this.legend[name] = make("div", {class: "legend"});
      return make("div", {class: name}, this.title[name], this.canvas[name], this.legend[name]);
    };
    const walk = event => this.walk(event);
    this.grid = make("div", {class: "grid"},
      cell("overview", "the frame and its objects; arrow keys move the chosen cell", "", walk),
      cell("detail", "the chosen cell with the anchors of the chosen level; arrow keys move it", "", walk),
      cell("cloud", "widths and heights of all boxes, and the shapes; arrow keys move the chosen shape, Page Up and Page Down choose another", "",
        event => this.nudge(event)),
      this.panel(), cell("curve", "recall against the IoU threshold; left and right move the threshold", "", event => this.nudgeThreshold(event)));
    this.press("overview", (x, y) => this.point(x, y, this.overviewMap));
    this.press("detail", (x, y) => this.point(x, y, this.detailMap));
    this.press("curve", x => this.put("threshold", hundredth(Math.min(0.95, Math.max(0.1, this.curveMap.value(x))))));
    this.press("cloud", (x, y) => this.drag(x, y), (x, y) => this.grab(x, y));
    this.canvas.cloud.addEventListener("dblclick", event => !this.near(event.offsetX, event.offsetY)
      && this.add([this.cloudMap.w(event.offsetX), this.cloudMap.h(event.offsetY)]));
    return this.grid;
  }

  panel() {
    const shape = () => this.spec.shapes[this.chosen[0]][this.chosen[1]];
    const [height, width] = this.splits[0].found.image_hw, log = true;
    this.sliders = {
      w: this.slider("width, px", [1, width], w => this.move([w, shape()[1]], "w"), log),
      h: this.slider("height, px", [1, height], h => this.move([shape()[0], h], "h"), log),
      size: this.slider("size √(w h), px", [1, Math.sqrt(width * height)], size => this.move(this.sized(size, this.ratioOf(shape())), "size"), log),
      ratio: this.slider("ratio w / h", [0.1, 10], ratio => this.move(this.sized(Math.sqrt(shape()[0] * shape()[1]), ratio), "ratio"), log)};
    this.levels = make("div", {class: "group", role: "group", "aria-label": "level by its stride, px"});
    this.shapes = make("div", {class: "shapes", role: "group", "aria-label": "shape"});
    this.panelTitle = make("h4", {});
    this.panelNote = make("div", {class: "legend"});
    const rows = Object.values(this.sliders).flatMap(({label, range, input}) => [make("label", {}, label), range, input]);
    const levels = make("div", {class: "levels group"}, make("span", {class: "lead"}, "Stride"), this.levels);
    const where = "on this level, as large as the median box that is not covered";
    const add = make("button", {type: "button", onclick: () => this.add(), title: where}, "Add a shape");
    const remove = make("button", {type: "button", onclick: () => this.remove()}, "Remove it");
    return make("div", {class: "panel"}, this.panelTitle, levels, this.shapes, make("div", {class: "sliders"}, ...rows),
      make("div", {class: "group"}, add, remove), this.panelNote);
  }

  sized(size, ratio) { return [size * Math.sqrt(ratio), size / Math.sqrt(ratio)]; }

  ratioOf([w, h]) { return w / h; }

  /** A slider with a field for the number; arrow keys are handled here since JupyterLab keeps them from a native slider. */
  slider(label, [low, high], onvalue, log) {
    const to = value => log ? 1000 * Math.log(value / low) / Math.log(high / low) : 100 * value;
    const from = place => log ? low * (high / low) ** (place / 1000) : place / 100;
    const range = make("input", {type: "range", min: log ? 0 : 100 * low, max: log ? 1000 : 100 * high, step: log ? "any" : 1, "aria-label": label});
    const input = make("input", {type: "number", step: "any", "aria-label": label});
    const take = value => Number.isFinite(value) && value > 0 ? onvalue(Math.min(high, Math.max(low, value))) : this.update();
    range.addEventListener("input", () => onvalue(from(Number(range.value))));
    range.addEventListener("keydown", event => {
      const steps = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6}[event.key];
      if (!steps) return;
      const by = steps * (log ? 2 : 1);
      event.preventDefault();
      range.now = from(Math.min(Number(range.max), Math.max(Number(range.min), to(range.now) + by * (event.shiftKey ? 5 : 1))));
      onvalue(range.now);  // and the next key goes on from here, whether or not this one is drawn by then
    });
    input.addEventListener("change", () => take(Number(input.value)));
    input.addEventListener("keydown", event => {
      const by = {ArrowUp: 1, ArrowDown: -1}[event.key];
      if (!by) return;
      event.preventDefault();
      take(log ? Number(input.value) * 1.02 ** by : Number(input.value) + by / 100);
    });
    const show = value => {
      range.now = value;
      range.value = to(value);
      range.setAttribute("aria-valuetext", fixed(value, 2));
      input.value = hundredth(value);
    };
    return {label, range, input, show};
  }

  /** Call `moved(x, y)` while the pointer is down on a canvas, from where `began(x, y)` allows it. */
  press(name, moved, began = moved) {
    const canvas = this.canvas[name];
    let down = false;
    canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      down = began(event.offsetX, event.offsetY) !== false;
      if (down) canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => down && moved(event.offsetX, event.offsetY));
    const end = () => {
      down = false;
      if (this.gesture === "drag") this.gesture = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  /** Choose the cell at a place of a canvas. */
  point(x, y, map) {
    const [height, width] = this.frame.image_hw;
    this.put("point", [Math.min(width, Math.max(0, map.x(x))), Math.min(height, Math.max(0, map.y(y)))].map(hundredth));
  }

  /** Arrow keys: the next cell. */
  walk(event) {
    const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!way) return;
    event.preventDefault();
    const stride = this.spec.strides[this.chosen[0]], [height, width] = this.frame.image_hw, [x, y] = this.get("point");
    this.put("point", [Math.min(width, Math.max(0, x + way[0] * stride)), Math.min(height, Math.max(0, y + way[1] * stride))]);
  }

  /** Arrow keys: the chosen shape 2 % wider, higher ...; with Shift 10 %. */
  nudge(event) {
    const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key], [k, a] = this.chosen;
    if (way) this.move(this.spec.shapes[k][a].map((side, n) => side * (event.shiftKey ? 1.1 : 1.02) ** way[n]), "nudge");
    else if (event.key === "PageDown" || event.key === "PageUp") this.step(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "Delete") this.remove();
    else return;
    event.preventDefault();
  }

  /** Choose the next or previous shape of all levels. */
  step(by) {
    const places = this.spec.shapes.flatMap((level, k) => level.map((_, a) => [k, a])), [k, a] = this.chosen;
    const at = places.findIndex(([l, n]) => l === k && n === a);
    this.choose(...places[(at + by + places.length) % places.length]);
  }

  nudgeThreshold(event) {
    const by = {ArrowLeft: -0.01, ArrowRight: 0.01}[event.key];
    if (!by) return;
    event.preventDefault();
    this.put("threshold", hundredth(Math.min(0.95, Math.max(0.1, this.get("threshold") + by))));
  }

  /** The shape [level, shape] whose mark is within 11 px of a place in the cloud; of the chosen level before others. */
  near(x, y) {
    let best, least = 11;
    this.spec.shapes.forEach((level, k) => level.forEach((shape, a) => {
      const [px, py] = this.cloudMap.place(shape), away = Math.hypot(px - x, py - y) - (k === this.chosen[0] ? 3 : 0);
      if (away < least) [best, least] = [[k, a], away];
    }));
    return best;
  }

  grab(x, y) {
    const found = this.near(x, y);
    if (!found) return false;
    this.choose(...found);
    this.gesture = null;
    return true;
  }

  drag(x, y) { this.move([this.cloudMap.w(x), this.cloudMap.h(y)], "drag"); }

  /** The table's rows, once; its numbers come with every picture. */
  table() {
    const names = ["all", ...this.categories], head = this.splits.flatMap(({name}) => [`${name}: boxes`, "recall", "mean IoU"]);
    this.rows = names.map((name, n) => {
      const cells = head.map((_, c) => make("td", c % 3 === 1 ? {class: "bar-cell"} : {}));
      const choose = () => this.put("category", this.get("category") === n ? 0 : n);
      return {cells, row: make("tr", {}, make("th", {scope: "row"}, make("button", {type: "button", onclick: choose}, name)), ...cells)};
    });
    const notes = this.splits.map(({note}) => note).filter(Boolean).join("; ");
    const style = this.splits.length > 1 ? "" : "max-width:600px";
    return make("div", {class: "scroll", tabindex: 0, "aria-label": "coverage of each class"}, notes, make("table", {style},
      make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "class"), ...head.map(text => make("th", {scope: "col"}, text)))),
      make("tbody", {}, ...this.rows.map(({row}) => row))));
  }

  /** Hear the model, Python, keys and sizes. */
  listen() {
    const changed = () => this.update();
    const names = ["threshold", "level", "shape", "category", "split", "frame", "point", "reference"];
    const spec = () => {
      const now = this.get("spec");
      if (JSON.stringify(now) === JSON.stringify(this.spec)) return;
      if (!(performance.now() - this.heard < 1000)) this.remember();  // another view of this studio tells of each move
      [this.spec, this.gesture, this.heard] = [now, null, performance.now()];
      this.given.add(now.name);
      this.update();
    };
    const frame = () => this.put("point", this.objectPoint());
    const told = message => {
      this.asked = false;
      this.say(String(message.text ?? ""));
    };
    for (const name of names) this.model.on(`change:${name}`, changed);
    this.model.on("change:frame", frame);
    this.model.on("change:spec", spec);
    this.model.on("msg:custom", told);
    this.leave = () => {
      for (const name of names) this.model.off(`change:${name}`, changed);
      this.model.off("change:frame", frame);
      this.model.off("change:spec", spec);
      this.model.off("msg:custom", told);
      this.sizes.disconnect();
      this.gone = true;
    };
    this.root.addEventListener("keydown", event => this.key(event));
    this.sizes = new ResizeObserver(() => this.update());
    this.sizes.observe(this.grid);
  }

  /** Undo and redo; no key of the studio is a shortcut of the notebook. */
  key(event) {
    event.stopPropagation();
    if (!(event.ctrlKey || event.metaKey) || event.target.matches("input[type=text],textarea")) return;
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      if (key === "y" || event.shiftKey) this.travel(this.future, this.past, "redo");
      else this.travel(this.past, this.future, "undo");
    }
  }

  // ---- the picture

  /** The frame that is shown; an empty one where there are none. */
  get frame() {
    const none = {name: "no frames", image_hw: this.splits[0].image_hw, start: 0, stop: 0, split: 0};
    return this.frames[Math.min(this.get("frame"), this.frames.length - 1)] ?? none;
  }

  /** Centre of the frame's object of median area, where there are objects; else of the frame. */
  objectPoint() {
    const {start, stop, image_hw: [height, width]} = this.frame;
    const boxes = Array.from({length: stop - start}, (_, n) => this.boxes.subarray(4 * (start + n), 4 * (start + n + 1)));
    const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1), box = boxes.sort((a, b) => area(a) - area(b))[boxes.length >> 1];
    return box ? [hundredth((box[0] + box[2]) / 2), hundredth((box[1] + box[3]) / 2)] : [width / 2, height / 2];
  }

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
    if (this.grid.clientWidth < 100) return;  // hidden, or not laid out yet; when it is, its new size calls again
    for (const {found} of this.splits) found.update(this.spec.shapes);
    const counts = this.splits.map(({found, labels}) => recall(found.iou, labels, this.categories.length, this.get("threshold")));
    const before = this.splits.map(({labels}, n) => recall(this.reference()[n], labels, this.categories.length, this.get("threshold")));
    drawOverview(this);
    drawDetail(this);
    drawCloud(this);
    drawCurve(this, counts);
    this.showControls();
    this.showNumbers(counts, before);
    this.showTable(counts);
    this.drawn = (this.drawn ?? 0) + 1;
    this.root.host.dataset.drawn = this.drawn;  // how often, for whoever measures
  }

  // ---- numbers

  showControls() {
    const [k, a] = this.chosen, shape = this.spec.shapes[k][a], {found} = this.splits[0], boxes = found.iou.length, levels = this.spec.strides.length;
    const serves = new Float64Array(found.flat.length);
    for (let i = 0; i < boxes; i++) serves[found.index[i]]++;
    const share = n => boxes ? `${(100 * n / boxes).toFixed(1)} %` : "–";
    const starts = this.spec.shapes.map((_, l) => this.spec.shapes.slice(0, l).reduce((sum, level) => sum + level.length, 0));
    const levelText = (stride, l) => [markIcon(l, levelColour(l, levels)), String(stride)];
    const shapeText = ([w, h], n) => [`${pixels(w)} × ${pixels(h)}`, make("small", {}, share(serves[starts[k] + n]))];
    this.choice(this.levels, this.spec.strides.map((stride, l) => [levelText(stride, l), l === k, () => this.choose(l, 0)]));
    this.choice(this.shapes, this.spec.shapes[k].map((size, n) => [shapeText(size, n), n === a, () => this.choose(k, n)]));
    const {w, h, size, ratio} = this.sliders;
    w.show(shape[0]);
    h.show(shape[1]);
    size.show(Math.sqrt(shape[0] * shape[1]));
    ratio.show(this.ratioOf(shape));
    const legend = `(w × h px; below: share of ${this.splits[0].name}’s boxes whose best anchor it is)`;
    this.panelTitle.replaceChildren("Shapes ", make("span", {}, legend));
    this.panelNote.textContent = this.price(k, shape);
    this.showSelectors();
  }

  /** What one shape of a level costs, and how it is clamped. */
  price(k, shape) {
    const image_hw = this.splits[0].found.image_hw, stride = this.spec.strides[k], one = {strides: [stride], shapes: [[shape]]};
    const [anchors, parameters] = [anchorCount(one, image_hw), headParameters(one, [this.inChannels[k]], this.categories.length)].map(whole);
    const sides = clamped(shape, image_hw), cut = sides[0] < f(shape[0]) || sides[1] < f(shape[1]);
    return `One shape of stride ${stride} is ${anchors} anchors and ${parameters} parameters.`
      + (cut ? ` It is clamped to the image: ${sides.map(pixels).join(" × ")} px.` : "");
  }

  showSelectors() {
    this.thresholdSlider.show(this.get("threshold"));
    this.frameSelect.value = Math.min(this.get("frame"), this.frames.length - 1);
    this.categorySelect.value = this.get("category");
    this.splitSelect.value = this.splits.some(({name}) => name === this.get("split")) && this.splits.length > 1 ? this.get("split") : "all";
    if (this.root.activeElement !== this.nameInput) this.nameInput.value = this.spec.name;
    this.setButtons.forEach((button, n) => button.setAttribute("aria-pressed", Object.keys(this.sets)[n] === this.get("reference")));
    this.improveButton.textContent = this.improving ? "Stop" : "Improve";
    this.undoButton.setAttribute("aria-disabled", !this.past.length);
    this.redoButton.setAttribute("aria-disabled", !this.future.length);
  }

  /** Buttons of which one is pressed; re-used, so that the focus stays where it is. */
  choice(group, entries) {
    while (group.children.length > entries.length) group.lastChild.remove();
    while (group.children.length < entries.length) group.append(make("button", {type: "button", onclick: event => event.currentTarget.act()}));
    entries.forEach(([content, pressed, act], n) => {
      const button = group.children[n];
      button.act = act;
      button.setAttribute("aria-pressed", pressed);
      const text = content.map(part => part.textContent ?? part).join("|");
      if (button.said !== text) button.replaceChildren(...content);
      button.said = text;
    });
  }

  showNumbers(counts, before) {
    const name = this.get("reference"), reference = this.sets[name], [height, width] = this.splits[0].found.image_hw;
    const both = (rows, key) => rows.flatMap((row, n) => [n ? "  " : "", fixed(row[0][key]), make("i", {}, ` ${this.splits[n].name}`)]);
    const plain = (rows, key) => rows.map(row => fixed(row[0][key])).join(", ");
    const anchors = spec => whole(anchorCount(spec, this.splits[0].image_hw));
    const heads = spec => whole(headParameters(spec, this.inChannels, this.categories.length));
    const entries = [
      [`Recall at IoU ${this.get("threshold").toFixed(2)}`, both(counts, "recall"), `${name}: ${plain(before, "recall")}`],
      ["Mean IoU with the best anchor", both(counts, "mean"), `${name}: ${plain(before, "mean")}`],
      [`Anchors on ${width} × ${height} px`, [anchors(this.spec)], `${name}: ${anchors(reference)}`],
      ["Heads’ last convolutions", [heads(this.spec), make("i", {}, " parameters")], `${name}: ${heads(reference)}`]];
    this.numbers.replaceChildren(...entries.map(([what, value, was]) =>
      make("div", {class: "number"}, make("b", {}, what), make("span", {}, ...value), make("small", {}, was))));
  }

  showTable(counts) {
    this.rows.forEach(({row, cells}, n) => {
      row.classList.toggle("chosen", n > 0 && n === this.get("category"));
      counts.forEach((split, s) => {
        const {boxes, recall: share, mean} = split[n];
        [whole(boxes), fixed(share), fixed(mean)].forEach((value, c) => cells[3 * s + c].textContent = value);
        cells[3 * s + 1].style.backgroundSize = `${Math.round(100 * (share || 0))}% calc(100% - 6px)`;
      });
    });
  }
}

/** Draw the studio into `el`; `offline` in a page without Python. */
function render({model, el, offline = false}) {
  const host = make("div", {class: "anchor-studio", "data-lm-suppress-shortcuts": "true"}), root = host.attachShadow({mode: "open"});
  root.append(make("style", {}, CSS));
  el.append(host);
  const view = new View(model, root, offline);
  return () => view.leave();
}

export default {render};
