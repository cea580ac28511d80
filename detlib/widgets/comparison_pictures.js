/** The comparison browser's pictures: one frame as each model sees it, and what each box is in words. */

const MORE_CSS = `
[hidden]{display:none!important}
#comparison{padding:4px 2px 2px;max-width:1640px;position:relative;outline:none}
.grow{flex:1 1 200px;max-width:460px;display:flex}.score{width:170px!important}
.readout{font-variant-numeric:tabular-nums;min-width:15.5em}
.chips button{display:inline-flex;align-items:center;gap:6px;padding:1px 8px;max-width:16em}
.chips button span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.chips button[aria-pressed=true]{background:#fff;border-color:#C3C9D0;box-shadow:none}
.chips button[aria-pressed=false]{color:#8A9099;background:#F3F4F6;text-decoration:line-through}
.chips kbd,.keys kbd{font:11px ${FONT.slice(5)};color:${FAINT};border:1px solid #D5DAE0;border-radius:3px;padding:0 4px;text-decoration:none}
.what{margin:0 0 2px;overflow-wrap:anywhere}.what b{font-weight:600}.what span,.note{color:${FAINT}}
.note{margin:0 0 4px;font-size:12px}.keys{color:${FAINT};font-size:12px;margin-top:8px;display:flex;flex-wrap:wrap;gap:3px 14px}
.keys span{white-space:nowrap}.keys kbd{margin-right:3px}
.legend{margin:2px 0 8px;display:flex;flex-wrap:wrap;gap:2px 16px}.legend span:not(:last-child){white-space:nowrap}
.legend svg{margin:0 5px 0 0!important}
.pictures{display:grid;gap:12px 16px;align-items:end}.pictures>*{min-width:0;margin:0}
figcaption{margin-bottom:3px;line-height:1.35;font-variant-numeric:tabular-nums;display:flex;flex-wrap:wrap;
gap:0 12px;align-items:baseline;font-size:12px;color:${FAINT}}
figcaption .line{display:contents}
figcaption b{font-weight:600;font-size:13px;color:${INK};overflow-wrap:anywhere}figcaption svg{vertical-align:-2px;margin-right:5px}
.pictures canvas{width:auto;cursor:crosshair;touch-action:pan-y;background:#ECEEF0}
.tip{position:absolute;z-index:2;pointer-events:none;white-space:pre-line;background:rgba(24,28,33,.95);color:#fff;border-radius:5px;
padding:6px 9px;max-width:330px;font-size:12.5px;overflow-wrap:anywhere}.tip.pinned{outline:2px solid #fff;outline-offset:-4px}
`;
const DASHES = {found: [], object: [], missed: [7, 4], wrong: [2, 2.5], crowd: [1, 3]};
const LABEL = `11px ${FONT.slice(5)}`;

/** Black or white, whichever is legible on a colour. */
function onColour(colour) {
  const [red, green, blue] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16) / 255);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 ? "#000" : "#fff";
}

const short = name => name.length <= 14 ? name : `${name.slice(0, 13)}…`;
const scored = score => score.toFixed(2).replace(/^0/, "");

/** What is drawn on the picture of model m (-1: the ground truth): kind, numbers of object and detection, label, box [x, y, w, h] px, text. */
function itemsOf(view, m, n) {
  const {pack} = view, errors = view.get("only_errors"), object = kind => o => ({kind, m, n, o, ...boxAt(pack.object_boxes, o),
    label: pack.object_labels[o], text: short(view.categories[pack.object_labels[o] - 1])});
  if (m < 0) {
    const [from, to] = pack.frames[n].objects, missed = o => view.outcomes.some(seen => !seen.detectionOf.has(o));
    const crowds = Array.from({length: to - from}, (_, k) => from + k).filter(o => pack.crowd[o] && view.shown.has(pack.object_labels[o]));
    const objects = objectsOf(pack, n, view.shown).filter(o => !errors || !view.outcomes.length || missed(o));
    return [...objects.map(object("object")), ...(errors ? [] : crowds).map(object("crowd"))];
  }
  const detection = kind => d => ({kind, m, n, d, o: objectOf(pack, n, d), ...boxAt(pack.boxes, d), label: pack.labels[d],
    text: `${short(view.categories[pack.labels[d] - 1])} ${scored(pack.scores[d])}`});
  const {found, missed, wrong} = view.outcomes[m];
  return [...missed.map(object("missed")), ...wrong.map(detection("wrong")), ...(errors ? [] : found.map(detection("found")))];
}

function boxAt(column, k) {
  const [x1, y1, x2, y2] = column.subarray(4 * k, 4 * k + 4);
  return {box: [x1, y1, x2 - x1, y2 - y1]};
}

/** Draw one model's picture of the frame, and remember what lies where on it. */
function drawPanel(view, panel, width, height) {
  const context = sheetOf(panel.canvas, width, height), [x1, y1, x2] = view.part, scale = width / (x2 - x1);
  const place = ([x, y, w, h]) => [(x - x1) * scale, (y - y1) * scale, w * scale, h * scale];
  panel.scale = scale;
  drawFrame(view, context, place, width, height, scale);
  panel.items = itemsOf(view, panel.m, view.place).map(item => ({...item, at: place(item.box)}))
    .filter(({at: [x, y, w, h]}) => x < width && y < height && x + w > 0 && y + h > 0);
  for (const {kind, label, at} of panel.items) stroke(context, at, view.colours[label - 1], kind);
  drawLabels(view, context, panel.items.filter(({kind}) => kind !== "crowd"), width, height);
  for (const item of panel.items) if (isMarked(item)) drawMark(context, markAt(item), item.kind);
  drawHot(view, context, panel, place);
  if (view.drawing) {
    const [a, b] = view.drawing, rectangle = place([Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])]);
    outline(context, rectangle, "#0B5CAD", 1.6);
  }
}

/** A canvas's context in CSS px at the screen's resolution, cleared. */
function sheetOf(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1, [wide, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== tall) [canvas.width, canvas.height] = [wide, tall];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The frame's picture; without one grey, and a sentence why. */
function drawFrame(view, context, place, width, height, scale) {
  const {picture, why} = view.pictureOf(view.pack.frames[view.place]), [tall, wide] = view.pack.frames[view.place].image_hw;
  if (picture) {
    context.imageSmoothingEnabled = scale * wide / picture.width < 1.5;
    context.drawImage(picture, ...place([0, 0, wide, tall]));
    context.fillStyle = "rgba(12,14,18,.2)";  // bright panoramas would swallow the lines
    context.fillRect(0, 0, width, height);
    return;
  }
  context.fillStyle = "#5A6068";
  context.fillRect(0, 0, width, height);
  context.font = LABEL;
  context.fillStyle = "#fff";
  text(context, why, width / 2, height - 8, "center");
}

/** A box in its class's colour, solid, dashed or dotted, on a halo that is dark under a light colour and light under a dark one. */
function stroke(context, rectangle, colour, kind) {
  context.setLineDash([]);
  context.lineWidth = kind === "crowd" ? 2.4 : 4;
  context.strokeStyle = onColour(colour) === "#000" ? "rgba(0,0,0,.65)" : "rgba(255,255,255,.7)";
  context.strokeRect(...rectangle);
  context.setLineDash(DASHES[kind]);
  context.lineWidth = kind === "crowd" ? 1.2 : 2;
  context.strokeStyle = colour;
  context.strokeRect(...rectangle);
  context.setLineDash([]);
}

const isMarked = ({kind}) => kind === "missed" || kind === "wrong";
const markAt = ({at: [x, y]}) => [Math.max(6.5, x - 5), Math.max(6.5, y - 5)];

/** A ring beside a missed object, a cross beside a false alarm, at its centre. */
function drawMark(context, [cx, cy], kind) {
  context.beginPath();
  context.arc(cx, cy, 6, 0, 2 * Math.PI);
  context.fillStyle = "rgba(15,18,22,.85)";
  context.fill();
  context.lineWidth = 1.8;
  context.strokeStyle = "#fff";
  if (kind === "wrong") {
    segment(context, cx - 2.6, cy - 2.6, cx + 2.6, cy + 2.6);
    segment(context, cx - 2.6, cy + 2.6, cx + 2.6, cy - 2.6);
    return;
  }
  context.beginPath();
  context.arc(cx, cy, 2.9, 0, 2 * Math.PI);
  context.stroke();
}

/** Class and score beside each box that has room for it. */
function drawLabels(view, context, items, width, height) {
  context.font = LABEL;
  const sizes = items.map(({text: words}) => [context.measureText(words).width + 6, 14]);
  const marks = items.filter(isMarked).map(markAt).map(([x, y]) => [x - 6, y - 6, 12, 12]);
  labelPlaces([...items.map(({at}) => at), ...marks], sizes, [width, height]).forEach((place, i) => {
    if (!place) return;
    const colour = view.colours[items[i].label - 1];
    context.fillStyle = colour;
    context.fillRect(...place, ...sizes[i]);
    context.fillStyle = onColour(colour);
    text(context, items[i].text, place[0] + 3, place[1] + 11, "left");
  });
}

/** White frames around the object that is pointed at, on every picture, and around the box itself. */
function drawHot(view, context, panel, place) {
  const hot = view.pinned ?? view.hot;
  if (!hot) return;
  const boxes = hot.o >= 0 ? [boxAt(view.pack.object_boxes, hot.o).box] : [];
  if (hot.m === panel.m) boxes.push(hot.box);
  for (const box of boxes) {
    const [x, y, w, h] = place(box);
    context.lineWidth = 4;
    context.strokeStyle = "rgba(0,0,0,.7)";
    context.strokeRect(x - 4, y - 4, w + 8, h + 8);
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.strokeRect(x - 4, y - 4, w + 8, h + 8);
  }
}

/** The smallest box under a point of a picture. */
function itemAt({items = []}, x, y) {
  const under = items.filter(({at: [left, top, w, h]}) => x >= left - 3 && x <= left + w + 3 && y >= top - 3 && y <= top + h + 3);
  return under.sort((a, b) => a.at[2] * a.at[3] - b.at[2] * b.at[3])[0];
}

/** What a box is, in lines. */
function described(view, {kind, m, n, o, d, label, box}) {
  const {pack} = view, name = view.categories[label - 1], size = `${pixels(box[2])} × ${pixels(box[3])} px`;
  if (kind === "crowd") return `${name}: marked as a crowd, so it counts neither as found nor as missed`;
  if (kind === "object") return [`${name}, ${size}`, ...fateOf(view, o)].join("\n");
  if (kind === "missed") {
    const late = below(pack, m, n, o);
    return `Missed: ${name}, ${size}\n` + (late === undefined ? "none of this model’s detections finds it at any score"
      : `found only at score ${fixed(pack.scores[late], 2)}, below the ${fixed(view.least(m), 2)} of this picture`);
  }
  const first = `${kind === "found" ? "Found" : "False alarm"}: ${name}, score ${fixed(pack.scores[d], 2)}, ${size}`;
  return `${first}\n${kind === "found" ? `IoU ${fixed(overlap(pack.boxes, d, pack.object_boxes, o), 2)} with the object` : errorOf(view, d, o)}`;
}

/** Which models found an object, and which missed it. */
function fateOf(view, o) {
  const names = found => view.models.filter((_, m) => view.outcomes[m].detectionOf.has(o) === found).map(({name}) => name).join(", ");
  return [["found by", names(true)], ["missed by", names(false)]].filter(([, who]) => who).map(line => line.join(" "));
}

/** The object that a detection found, or that its error has to do with; -1 for none. */
function objectOf(pack, n, d) {
  const kind = KINDS[pack.kinds[d]];
  if (kind === "right") return pack.objects[d];
  return kind === "background" ? -1 : nearest(pack, n, d, kind === "duplicate" || kind === "localisation");
}

/** Why a detection is a false alarm. */
function errorOf({pack, categories}, d, o) {
  if (o < 0) return "background: it overlaps no object by an IoU of more than 0.1";
  const whose = `IoU ${fixed(overlap(pack.boxes, d, pack.object_boxes, o), 2)} with an object of class ${categories[pack.object_labels[o] - 1]}`;
  const said = {duplicate: `duplicate: ${whose}, which a better detection found`, classification: `wrong class: ${whose}`,
    localisation: `poor box: ${whose}, 0.5 is needed`, both: `wrong class and poor box: ${whose}`};
  return said[KINDS[pack.kinds[d]]];
}
