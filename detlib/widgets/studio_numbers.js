/**
 * The anchor studio's numbers: by the rule and, rounding every step to float32 as torch does, the very numbers of detlib/coverage.py.
 *
 * Boxes are xyxy px in typed arrays of M boxes, shapes are [w, h] px, image sizes are [height, width]; a set ("spec") is
 * {name, strides, shapes}, with one list of shapes for each stride.
 */

const f = Math.fround;

/** The next larger image size whose sides are multiples of the largest stride. */
export function padded(strides, [height, width]) {
  const step = strides[strides.length - 1];
  return [Math.ceil(height / step) * step, Math.ceil(width / step) * step];
}

/** A shape [w, h] px, clamped to the image's size as in the grid. */
export function clamped([w, h], [height, width]) {
  return [f(Math.min(w, width)), f(Math.min(h, height))];
}

/** Centre px of the cell nearest to a point on one axis. */
export function nearestCell(centre, stride, side) {
  const last = Math.floor(side / stride) - 1;
  return f((Math.min(Math.max(Math.floor(f(centre / stride)), 0), last) + 0.5) * stride);
}

/** IoU of M boxes with the best anchor of every shape, kept as one column a shape, so that a move costs one column. */
export class Coverage {
  /** `boxes`: Float32Array of 4 M numbers, xyxy px; `image_hw` is padded here. */
  constructor(strides, boxes, image_hw) {
    const M = boxes.length / 4, column = () => new Float32Array(M);
    this.strides = strides;
    this.image_hw = padded(strides, image_hw);
    [this.w, this.h, this.halfW, this.halfH, this.area] = Array.from({length: 5}, column);
    const cx = column(), cy = column();
    for (let i = 0; i < M; i++) {
      const [x1, y1, x2, y2] = [boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]];
      cx[i] = f(x1 + x2) / 2;
      cy[i] = f(y1 + y2) / 2;
      this.w[i] = x2 - x1;
      this.h[i] = y2 - y1;
      this.halfW[i] = this.w[i] / 2;
      this.halfH[i] = this.h[i] / 2;
      this.area[i] = this.w[i] * this.h[i];
    }
    const away = (centre, side) => strides.map(stride => centre.map(c => Math.abs(f(c - nearestCell(c, stride, side)))));
    [this.awayX, this.awayY] = [away(cx, this.image_hw[1]), away(cy, this.image_hw[0])];  // (M,) px, one a level
    this.flat = [];  // [level, w, h] of each of the S shapes
    this.columns = [];  // S columns (M,) of IoU
    this.iou = column();  // (M,) of the best shape
    this.index = new Uint16Array(M);  // (M,) the best shape, in 0..S-1
  }

  /** Take the shapes of all levels; only the columns of those that changed are computed. */
  update(shapes) {
    const before = this.flat;
    this.flat = shapes.flatMap((level, k) => level.map(shape => [k, ...clamped(shape, this.image_hw)]));
    const changed = this.flat.map((_, s) => s).filter(s => String(this.flat[s]) !== String(before[s]));
    for (const s of changed) this.columns[s] = this.column(this.flat[s], this.columns[s]);
    this.columns.length = this.flat.length;
    if (changed.length === 1 && before.length === this.flat.length) this.move(changed[0]);
    else if (changed.length || before.length !== this.flat.length) for (let i = 0; i < this.iou.length; i++) this.rescan(i);
    return this;
  }

  /** IoU (M,) of every box with one shape [level, w, h] in its nearest cell. */
  column([level, w, h], out = new Float32Array(this.iou.length)) {
    const {halfW, halfH, area} = this, ax = this.awayX[level], ay = this.awayY[level];
    const hw = f(w / 2), hh = f(h / 2), size = f(w * h);
    for (let i = 0; i < out.length; i++) {
      const ox = f(Math.min(f(halfW[i] + ax[i]), hw) + Math.min(f(halfW[i] - ax[i]), hw));
      const oy = f(Math.min(f(halfH[i] + ay[i]), hh) + Math.min(f(halfH[i] - ay[i]), hh));
      const inter = ox > 0 && oy > 0 ? f(ox * oy) : 0;
      out[i] = inter / f(f(area[i] + size) - inter);
    }
    return out;
  }

  /** Bring the best of every box up to date after column `s` changed. */
  move(s) {
    const column = this.columns[s], {iou, index} = this;
    for (let i = 0; i < iou.length; i++) {
      if (column[i] > iou[i]) {
        iou[i] = column[i];
        index[i] = s;
      } else if (index[i] === s) this.rescan(i);
    }
  }

  /** The best shape of box `i`, from all columns. */
  rescan(i) {
    let best = -1, at = 0;
    for (let s = 0; s < this.columns.length; s++) if (this.columns[s][i] > best) best = this.columns[at = s][i];
    this.iou[i] = best;
    this.index[i] = at;
  }

  /** Best IoU (M,) with every shape but `s`. */
  others(s) {
    const out = new Float32Array(this.iou.length);
    for (const [at, column] of this.columns.entries()) if (at !== s) for (let i = 0; i < out.length; i++) if (column[i] > out[i]) out[i] = column[i];
    return out;
  }
}

/** The best anchor of every box: {iou, level, shape}, each (M,), as `detlib.coverage.coverage`. */
export function coverage(spec, boxes, image_hw) {
  const found = new Coverage(spec.strides, boxes, image_hw).update(spec.shapes);
  const place = spec.shapes.flatMap((level, k) => level.map((_, a) => [k, a]));
  return {iou: found.iou, level: Array.from(found.index, s => place[s][0]), shape: Array.from(found.index, s => place[s][1])};
}

/** Of all boxes (row 0) and of each class 1..K: {boxes, recall, mean}; NaN without boxes. */
export function recall(iou, labels, classes, threshold) {
  const rows = Array.from({length: classes + 1}, () => ({boxes: 0, hits: 0, sum: 0})), least = f(threshold);
  for (let i = 0; i < iou.length; i++) {
    for (const row of [rows[0], rows[labels[i]]]) {
      row.boxes++;
      row.sum += iou[i];
      if (iou[i] >= least) row.hits++;
    }
  }
  return rows.map(({boxes, hits, sum}) => ({boxes, recall: hits / boxes, mean: sum / boxes}));
}

const STEPS = 100;

/** Recall at the thresholds 0, 1/STEPS, ..., 1 of the boxes of one class (0: of all); null without boxes. */
export function recallCurve(iou, labels, category) {
  const counts = new Float64Array(STEPS + 2), edge = Float32Array.from(counts, (_, k) => k / STEPS);
  let boxes = 0;
  for (let i = 0; i < iou.length; i++) {
    if (category && labels[i] !== category) continue;
    let bin = Math.floor(iou[i] * STEPS);
    if (iou[i] >= edge[bin + 1]) bin++;  // an edge that float32 rounds down
    counts[bin]++;
    boxes++;
  }
  for (let k = STEPS; k >= 0; k--) counts[k] += counts[k + 1];
  return boxes ? Array.from(counts.subarray(0, STEPS + 1), n => n / boxes) : null;
}

/** Number of anchors R on an image, padded. */
export function anchorCount({strides, shapes}, image_hw) {
  const [height, width] = padded(strides, image_hw);
  return shapes.reduce((sum, level, k) => sum + Math.floor(height / strides[k]) * Math.floor(width / strides[k]) * level.length, 0);
}

/** Weights and biases of the heads' last 3x3 convolutions: for each anchor of a cell, K + 1 class scores and 4 box offsets. */
export function headParameters({shapes}, inChannels, classes) {
  return shapes.reduce((sum, level, k) => sum + level.length * (classes + 1 + 4) * (9 * inChannels[k] + 1), 0);
}

/** Which boxes a shape [a, b] covers where their centres meet: [w, least h, most h] px along the widths from t a to a / t. */
export function reach([a, b], t, points = 48) {
  return Array.from({length: points + 1}, (_, n) => {
    const w = a * t ** (1 - 2 * n / points);
    if (w <= a) return [w, t * a * b / w, b * (w + w / t - a) / w];
    return [w, t * a * b / (a * (1 + t) - t * w), a * b / (t * w)];
  });
}

const WAYS = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]];

/** The best of nine neighbours of shape `s`, `step` apart in ln w and ln h: one step up the soft recall that detlib/fitting.py climbs. */
export function improved(found, s, [w, h], step, threshold) {
  const others = found.others(s), column = new Float32Array(others.length), level = found.flat[s][0];
  const worth = shape => {
    found.column([level, ...clamped(shape, found.image_hw)], column);
    return column.reduce((sum, iou, i) => sum + 1 / (1 + Math.exp((threshold - Math.max(iou, others[i])) / 0.05)), 0);
  };
  let best = [w, h], most = worth(best) * (1 + 1e-9);
  for (const [x, y] of WAYS) {
    const shape = [w * Math.exp(x * step), h * Math.exp(y * step)].map(side => Math.max(1, hundredth(side))), value = worth(shape);
    if (value > most) [best, most] = [shape, value];
  }
  return best;
}

const hundredth = value => Math.round(value * 100) / 100;

/** A set as the Python expression that makes it. */
export function code({name, strides, shapes}) {
  const number = value => Number.isInteger(value) ? `${value}.0` : String(value);
  const tuple = (parts, end) => `(${parts.join(", ")}${parts.length === 1 ? "," : ""}${end})`;
  const levels = shapes.map(level => `        ${tuple(level.map(shape => tuple(shape.map(number), "")), "")},\n`);
  return `AnchorSpec(\n    ${tuple(strides, "")},\n    (\n${levels.join("")}    ),\n    ${JSON.stringify(name)},\n)\n`;
}

/** The plain list of `detlib.fitting.listing`. */
export function listing({strides, shapes}) {
  const row = level => level.map(([w, h]) => `${w.toFixed(1)}x${h.toFixed(1)}`).join("  ");
  return strides.map((stride, k) => `stride ${String(stride).padStart(3)}: ${row(shapes[k])}`).join("\n");
}
