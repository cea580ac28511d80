/**
 * The comparison browser's numbers. A pack is what Python's `packed` made: frames, edges (models, frames + 1), and columns of objects and
 * detections; n is a frame's place in the pack. On a frame detections stand best first, and what a better one found does not depend on the
 * others, so one matching serves every least score.
 */

const [IN_ORDER, WORST, CHANGE] = ["in order", "worst first", "largest change first"];
/** What a detection is, as comparison.py's KINDS, by the `kinds` column. */
export const KINDS = ["right", "classification", "localisation", "both", "duplicate", "background", "left out"];
const FOUND = 0, NOT_COUNTED = KINDS.length - 1;
const TYPES = {boxes: Float32Array, scores: Float32Array, labels: Uint16Array, kinds: Uint8Array, objects: Int32Array, object_boxes: Float32Array,
  object_labels: Uint16Array, crowd: Uint8Array};

/** A pack with its bytes (DataViews) as typed arrays. */
export function unpacked(content) {
  const columns = Object.entries(TYPES).map(([name, Type]) => {
    const {buffer, byteOffset, byteLength} = content[name];
    return [name, new Type(buffer.slice(byteOffset, byteOffset + byteLength))];
  });
  return {frames: content.frames, edges: content.edges, ...Object.fromEntries(columns)};
}

/** What model m makes of frame n with detections of at least a score: numbers of detections, and of objects, of the shown classes (a Set). */
export function outcomeOf(pack, m, n, least, shown) {
  const [from, to] = pack.edges[m].slice(n, n + 2), result = {found: [], wrong: [], missed: [], detectionOf: new Map()};
  for (let d = from; d < to && pack.scores[d] >= least; d++) {
    if (pack.kinds[d] === FOUND) result.detectionOf.set(pack.objects[d], d);
    if (pack.kinds[d] === NOT_COUNTED || !shown.has(pack.labels[d])) continue;
    (pack.kinds[d] === FOUND ? result.found : result.wrong).push(d);
  }
  result.missed = objectsOf(pack, n, shown).filter(o => !result.detectionOf.has(o));
  return result;
}

/** The numbers of a frame's objects of the shown classes, without crowds. */
export function objectsOf(pack, n, shown) {
  const [from, to] = pack.frames[n].objects, numbers = Array.from({length: to - from}, (_, k) => from + k);
  return numbers.filter(o => !pack.crowd[o] && shown.has(pack.object_labels[o]));
}

/** How many were found, missed and false alarms: one entry a frame, each of model m. */
export function countsOf(pack, m, least, shown) {
  return pack.frames.map((_, n) => {
    const {found, missed, wrong} = outcomeOf(pack, m, n, least, shown);
    return {found: found.length, missed: missed.length, wrong: wrong.length};
  });
}

/** F1 of found, missed and false alarms; NaN where there are none. */
export const f1Of = ({found, missed, wrong}) => 2 * found / (2 * found + missed + wrong);

export const added = counts => counts.reduce((sum, {found, missed, wrong}) =>
  ({found: sum.found + found, missed: sum.missed + missed, wrong: sum.wrong + wrong}), {found: 0, missed: 0, wrong: 0});

/**
 * The frames' places in the order of a rule. Worst first: by F1 of all models together, of equal ones the most errors; frames with nothing on
 * them last. Largest change first: by the number of objects that some models found and others missed. `leasts` has one score a model.
 */
export function ordered(pack, rule, leasts, shown) {
  const places = pack.frames.map((_, n) => n);
  if (rule === IN_ORDER || !leasts.length) return places;
  if (rule === CHANGE) {
    const change = places.map(n => disputed(pack, n, leasts, shown));
    return places.sort((a, b) => change[b] - change[a] || a - b);
  }
  const models = leasts.map((least, m) => countsOf(pack, m, least, shown)), total = places.map(n => added(models.map(counts => counts[n])));
  const f1 = total.map(counts => Number.isNaN(f1Of(counts)) ? 2 : f1Of(counts)), errors = total.map(({missed, wrong}) => missed + wrong);
  return places.sort((a, b) => f1[a] - f1[b] || errors[b] - errors[a] || a - b);
}

/** How many of a frame's objects some models found and others missed. */
function disputed(pack, n, leasts, shown) {
  const found = leasts.map((least, m) => outcomeOf(pack, m, n, least, shown).detectionOf);
  return objectsOf(pack, n, shown).filter(o => found.some(of => of.has(o)) && found.some(of => !of.has(o))).length;
}

/** IoU of the box at place i of one column and the box at place k of another, xyxy px. */
export function overlap(a, i, b, k) {
  const [ax, ay, au, av] = a.subarray(4 * i, 4 * i + 4), [bx, by, bu, bv] = b.subarray(4 * k, 4 * k + 4);
  const inter = Math.max(0, Math.min(au, bu) - Math.max(ax, bx)) * Math.max(0, Math.min(av, bv) - Math.max(ay, by));
  return inter / ((au - ax) * (av - ay) + (bu - bx) * (bv - by) - inter);
}

/** Of a frame's objects of the same class as detection d (or of other classes), the one that it overlaps most; -1 without one. */
export function nearest(pack, n, d, same) {
  const [from, to] = pack.frames[n].objects;
  let best = -1, most = 0;
  for (let o = from; o < to; o++) {
    if (pack.crowd[o] || (pack.object_labels[o] === pack.labels[d]) !== same) continue;
    const iou = overlap(pack.boxes, d, pack.object_boxes, o);
    if (iou > most) [best, most] = [o, iou];
  }
  return best;
}

/** The best detection of model m that would find object o of frame n at a lower score, if there is one. */
export function below(pack, m, n, o) {
  for (let d = pack.edges[m][n]; d < pack.edges[m][n + 1]; d++) if (pack.kinds[d] === FOUND && pack.objects[d] === o) return d;
}

/** A region [x1, y1, x2, y2] px grown to `smallest` px or more and to a shape (width / height) within limits, moved and cut into the picture. */
export function fitted([x1, y1, x2, y2], [height, width], smallest = 16, least = 0.75, most = 8) {
  let w = Math.max(x2 - x1, smallest), h = Math.max(y2 - y1, smallest / 2);
  w = Math.min(width, Math.max(w, h * Math.min(least, width / height)));
  h = Math.min(height, Math.max(h, w / Math.max(most, width / height)));
  const left = Math.min(Math.max(0, (x1 + x2 - w) / 2), width - w), top = Math.min(Math.max(0, (y1 + y2 - h) / 2), height - h);
  return [left, top, left + w, top + h];
}

/** Columns, and each picture's width and height, for `count` pictures of a shape (width / height) on a page: about `tall` px high. */
export function layoutOf(page, shape, count, gap = 16, tall = 290, narrow = 200, most = 560, screen = 1000) {
  const columns = Math.max(1, Math.min(count, Math.round((page + gap) / (tall * shape + gap)), Math.floor((page + gap) / (narrow + gap))));
  const high = Math.min(most, Math.max(tall / 2, screen / Math.ceil(count / columns)));  // all rows on one screen, where that is legible
  const cell = (page - gap * (columns - 1)) / columns, width = Math.min(cell, high * shape);
  return {columns, width: Math.floor(width), height: Math.max(24, Math.round(width / shape))};
}

/** Places [x, y] for labels of sizes [w, h], one for each of the first boxes [x, y, w, h], over no box or label in `area`; null without one. */
export function labelPlaces(boxes, sizes, [width, height]) {
  const taken = boxes.map(([x, y, w, h]) => [x, y, x + w, y + h]);
  return sizes.map(([w, h], i) => {
    const [x, y, bw, bh] = boxes[i], above = y - h - 2, under = y + bh + 2, right = x + bw - w;
    const tries = [[x, above], [right, above], [x, under], [right, under], [x + bw + 2, y], [x - w - 2, y]];
    const place = tries.find(([px, py]) => px >= 0 && py >= 0 && px + w <= width && py + h <= height
      && !taken.some(([x1, y1, x2, y2]) => px < x2 && x1 < px + w && py < y2 && y1 < py + h));
    if (place) taken.push([...place, place[0] + w, place[1] + h]);
    return place ?? null;
  });
}
