/** The anchor studio's pictures: the frame, the chosen cell, the cloud of boxes and the recall curve of a view. */

/** A canvas's context in CSS px at the screen's resolution, cleared, and its width and height. */
function paper(view, name) {
  const canvas = view.canvas[name], scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  return [context, width, height];
}

/** The frame's picture; undefined until it is decoded, null without one. */
function pictureOf(view) {
  const n = view.frames.indexOf(view.frame), bytes = view.frame.picture;
  if (!(n in view.pictures)) {
    view.pictures[n] = bytes?.byteLength ? undefined : null;
    if (bytes?.byteLength) {
      createImageBitmap(new Blob([bytes], {type: "image/webp"})).then(picture => {
        view.pictures[n] = picture;
        view.update();
      }, () => [view.pictures[n]] = [null]);
    }
  }
  return view.pictures[n];
}

/** The frame's picture, pale, its top left corner at (x, y), `scale` canvas px a pixel. */
function drawPicture(view, context, x, y, scale) {
  const [height, width] = view.frame.image_hw, picture = pictureOf(view);
  context.fillStyle = "#EDEFF2";
  context.fillRect(x, y, width * scale, height * scale);
  if (!picture) return;
  context.globalAlpha = 0.55;
  context.imageSmoothingEnabled = scale * width / picture.width < 1.5;
  context.drawImage(picture, x, y, width * scale, height * scale);
  context.globalAlpha = 1;
}

/** The frame's objects: number in `boxes`, [x, y, w, h] px, label, best IoU, and whether that covers it. */
function objectsOf(view) {
  const split = view.splits[view.frame.split], least = f(view.get("threshold"));
  return Array.from({length: view.frame.stop - view.frame.start}, (_, n) => {
    const i = view.frame.start + n, [x1, y1, x2, y2] = view.boxes.subarray(4 * i, 4 * i + 4), iou = split.found.iou[i - split.start];
    return {i, box: [x1, y1, x2 - x1, y2 - y1], label: view.labels[i], iou, covered: iou >= least, best: split.found.index[i - split.start]};
  });
}

function drawObjects(view, context, x, y, scale, width) {
  const category = view.get("category");
  for (const {box: [bx, by, w, h], label, covered} of objectsOf(view)) {
    const rectangle = [x + bx * scale, y + by * scale, w * scale, h * scale];
    if (category && label !== category) outline(context, rectangle, "#8A9099", 1);
    else outline(context, rectangle, covered ? COVERED : MISSED, covered ? width : width + 0.6, covered ? [] : [4, 2.5]);
  }
}

function drawOverview(view) {
  const [height, width] = view.frame.image_hw, wide = width / height >= 2.5;
  view.grid.classList.toggle("wide", wide);
  view.grid.classList.toggle("tall", !wide);
  const room = view.canvas.overview.clientWidth, scale = Math.min(room / width, MAX_HEIGHT / height);
  view.canvas.overview.style.height = `${wide ? Math.round(height * scale) : MAX_HEIGHT}px`;
  const [context, all, tall] = paper(view, "overview"), x = (all - width * scale) / 2, y = (tall - height * scale) / 2;
  view.overviewMap = {x: at => (at - x) / scale, y: at => (at - y) / scale};
  drawPicture(view, context, x, y, scale);
  drawObjects(view, context, x, y, scale, 1.8);
  const {x: left, y: top, width: w, height: h} = windowOf(view, view.canvas.detail.clientWidth, view.canvas.detail.clientHeight);
  const [l, t] = [Math.max(1, x + left * scale), Math.max(1, y + top * scale)];
  outline(context, [l, t, Math.min(all - 1, x + (left + w) * scale) - l, Math.min(tall - 1, y + (top + h) * scale) - t], "#0B5CAD", 1.6);
  const category = view.get("category"), objects = objectsOf(view).filter(({label}) => !category || label === category);
  const covered = objects.filter(object => object.covered).length, whose = category ? ` (${view.categories[category - 1]})` : "";
  const hint = wide ? "(click, or arrow keys, to choose a cell; the blue frame is what the next picture shows)" : "(click to choose a cell)";
  view.title.overview.replaceChildren(`The frame: ${covered} of its ${objects.length} objects${whose} covered `, make("span", {}, hint));
  if (!view.legend.overview.firstChild) {
    view.legend.overview.append(lineIcon({colour: COVERED}), "covered by an anchor", lineIcon({colour: MISSED, dash: [5, 3], width: 3}),
      "not covered", lineIcon({colour: "#8A9099", width: 1.2}), "of another class");
  }
}

/** What the detail shows: centre of the chosen cell, px; scale, in steps, so that all shapes of the level fit; the part of the image. */
function windowOf(view, wide, tall) {
  const split = view.splits[view.frame.split], k = view.chosen[0], stride = view.spec.strides[k], [height, width] = split.found.image_hw;
  const [px, py] = view.get("point"), cx = nearestCell(px, stride, width), cy = nearestCell(py, stride, height);
  const sizes = view.spec.shapes[k].map(shape => clamped(shape, split.found.image_hw));
  const fit = Math.min(wide / Math.max(...sizes.map(([w]) => w)), tall / Math.max(...sizes.map(([, h]) => h))) / 1.3;
  const scale = Math.min(6, 2 ** (Math.floor(2 * Math.log2(fit)) / 2));
  return {cx, cy, k, sizes, scale, x: cx - wide / scale / 2, y: cy - tall / scale / 2, width: wide / scale, height: tall / scale};
}

function drawDetail(view) {
  const [context, wide, tall] = paper(view, "detail"), {cx, cy, k, sizes, scale, x, y} = windowOf(view, wide, tall);
  const place = (px, py) => [(px - x) * scale, (py - y) * scale];
  view.detailMap = {x: at => at / scale + x, y: at => at / scale + y};
  context.fillStyle = "#F7F8FA";
  context.fillRect(0, 0, wide, tall);
  drawPicture(view, context, ...place(0, 0), scale);
  drawObjects(view, context, ...place(0, 0), scale, 2.2);
  sizes.forEach(([w, h], a) => outline(context, [...place(cx - w / 2, cy - h / 2), w * scale, h * scale], levelColour(k, view.spec.strides.length),
    a === view.chosen[1] ? 3.6 : 1.3));
  context.fillStyle = INK;
  context.fillRect(...place(cx, cy).map(at => at - 2.5), 5, 5);
  view.title.detail.replaceChildren(`Stride ${view.spec.strides[k]}: the ${sizes.length} anchors of one cell `,
    make("span", {}, `(${scale.toFixed(1)} : 1; thick: the chosen one)`));
  view.legend.detail.textContent = describe(view);
}

/** The object at the chosen point in words. */
function describe(view) {
  const [px, py] = view.get("point"), under = objectsOf(view).filter(({box: [x, y, w, h]}) => px >= x && px <= x + w && py >= y && py <= y + h);
  const object = under.sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3])[0];
  if (!object) return "No object at the chosen point; click one to read its best anchor.";
  const split = view.splits[view.frame.split], [k, w, h] = split.found.flat[object.best], [, , ow, oh] = object.box;
  const best = `best IoU ${fixed(object.iou, 2)}, by ${pixels(w)} × ${pixels(h)} px of stride ${view.spec.strides[k]}`;
  return `${view.categories[object.label - 1]}, ${pixels(ow)} × ${pixels(oh)} px: ${best}`;
}

/** The ends of the cloud's axes, [[ln w, ln w], [ln h, ln h]]: the smallest box, the largest or the image, and a little more. */
function endsOf(view) {
  return ["w", "h"].map((side, n) => {
    const low = view.splits.reduce((least, {found}) => found[side].reduce((a, b) => Math.min(a, b), least), 8);
    const high = view.splits.reduce((most, {found}) => found[side].reduce((a, b) => Math.max(a, b), most), view.splits[0].found.image_hw[1 - n]);
    return [Math.log(Math.max(0.5, low) / 1.25), Math.log(high * 1.25)];
  });
}

/** How w and h become px of the cloud, and back; both axes are logarithmic. */
function axesOf(view, wide, tall) {
  view.extremes ??= endsOf(view);
  const [[w0, w1], [h0, h1]] = view.extremes, left = 40, right = wide - 8, top = 6, bottom = tall - 34;
  const x = w => left + (right - left) * Math.min(1, Math.max(0, (Math.log(w) - w0) / (w1 - w0)));
  const y = h => bottom - (bottom - top) * Math.min(1, Math.max(0, (Math.log(h) - h0) / (h1 - h0)));
  const back = (at, from, to, a, b) => Math.exp(a + (b - a) * Math.min(1, Math.max(0, (at - from) / (to - from))));
  const [w, h] = [at => back(at, left, right, w0, w1), at => back(at, bottom, top, h0, h1)];
  return {x, y, w, h, left, right, top, bottom, place: ([w, h]) => [x(w), y(h)]};
}

function drawCloud(view) {
  const [context, wide, tall] = paper(view, "cloud"), map = axesOf(view, wide, tall), levels = view.spec.strides.length, [k, a] = view.chosen;
  view.cloudMap = map;
  const shown = drawDensity(view, context, map);
  ticks(context, map);
  const shape = view.spec.shapes[k][a], area = reach(clamped(shape, view.splits[0].found.image_hw), view.get("threshold"));
  context.beginPath();
  for (const [w, , h] of area) context.lineTo(map.x(w), map.y(h));
  for (const [w, h] of area.reverse()) context.lineTo(map.x(w), map.y(h));
  context.closePath();
  context.lineWidth = 1.6;
  context.strokeStyle = levelColour(k, levels);
  context.stroke();
  const order = view.spec.shapes.map((_, l) => l).filter(l => l !== k);
  for (const l of [...order, k]) {
    const size = n => l !== k ? 4.5 : n === a ? 8 : 6;
    view.spec.shapes[l].forEach((shape, n) => drawMark(view, context, map.place(shape), l, size(n), l === k && n === a));
  }
  view.title.cloud.replaceChildren("Widths and heights ", make("span", {}, `of ${whole(shown)} boxes (drag a mark; double click to add)`));
  if (!view.legend.cloud.firstChild) {
    view.legend.cloud.append(swatch("rgb(120,155,188)"), "boxes covered", swatch("rgb(222,122,46)"),
      "mostly not covered; outline: within reach of the chosen shape");
  }
}

/** How many boxes lie where, darker for more, and whether most are covered; returns the number of boxes. */
function drawDensity(view, context, {x, y, left, right, top, bottom}) {
  const key = [right, bottom, view.get("split"), view.get("category")].join(), least = f(view.get("threshold"));
  if (view.binned?.key !== key) view.binned = {key, ...binsOf(view, x, y, left, top, right)};
  const {bin, columns, shown, parts} = view.binned, rows = Math.ceil((bottom - top) / bin) + 1;
  const all = new Uint32Array(columns * rows), missed = new Uint32Array(columns * rows);
  for (const {found, boxes, places} of parts) {
    for (let n = 0; n < boxes.length; n++) {
      all[places[n]]++;
      if (found.iou[boxes[n]] < least) missed[places[n]]++;
    }
  }
  const most = Math.log2(1 + all.reduce((a, b) => Math.max(a, b), 1)), picture = new ImageData(columns, rows);
  const colours = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < all.length; at++) {
    if (all[at]) colours[at] = (missed[at] * 2 > all[at] ? ORANGE : BLUE)[Math.round(15 * (0.25 + 0.75 * Math.log2(1 + all[at]) / most))];
  }
  view.bitmap ??= document.createElement("canvas");
  [view.bitmap.width, view.bitmap.height] = [columns, rows];
  view.bitmap.getContext("2d").putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(view.bitmap, left, top, columns * bin, rows * bin);
  return shown;
}

/** Bins of 2 px (4 px for few boxes); for each split that is shown, the numbers of its boxes of the chosen class, and the bin of each. */
function binsOf(view, x, y, left, top, right) {
  const wanted = view.get("split"), category = view.get("category");
  const parts = view.splits.some(({name}) => name === wanted) ? view.splits.filter(({name}) => name === wanted) : view.splits;
  const of = ({found, labels}) => Uint32Array.from(found.iou.keys()).filter(i => !category || labels[i] === category);
  const chosen = parts.map(split => ({found: split.found, boxes: of(split)}));
  const shown = chosen.reduce((sum, {boxes}) => sum + boxes.length, 0), bin = shown < 2000 ? 4 : 2, columns = Math.ceil((right - left) / bin) + 1;
  const place = (found, i) => Math.floor((y(found.h[i]) - top) / bin) * columns + Math.floor((x(found.w[i]) - left) / bin);
  return {bin, columns, shown, parts: chosen.map(({found, boxes}) => ({found, boxes, places: boxes.map(i => place(found, i))}))};
}

function drawMark(view, context, [x, y], k, r, chosen) {
  const path = new Path2D();
  path.addPath(new Path2D(mark(k, r)), new DOMMatrix([1, 0, 0, 1, x, y]));
  context.lineWidth = chosen ? 5 : 3;
  context.strokeStyle = chosen ? INK : "#fff";
  context.stroke(path);
  if (chosen) {
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke(path);
  }
  context.fillStyle = levelColour(k, view.spec.strides.length);
  context.fill(path);
}

function drawCurve(view, counts) {
  const [context, wide, tall] = paper(view, "curve"), left = 40, right = wide - 10, top = 8, bottom = tall - 34, threshold = view.get("threshold");
  const x = t => left + (right - left) * t, y = share => bottom - (bottom - top) * share;
  view.curveMap = {value: at => (at - left) / (right - left)};
  context.lineWidth = 1;
  for (let n = 0; n <= 5; n++) {
    const at = n / 5;
    context.strokeStyle = "#ECEFF2";
    segment(context, x(at), top, x(at), bottom);
    segment(context, left, y(at), right, y(at));
    context.fillStyle = FAINT;
    text(context, at.toFixed(1), x(at), bottom + 14, "center");
    text(context, at.toFixed(1), left - 6, y(at) + 4, "right");
  }
  text(context, "IoU threshold", (left + right) / 2, tall - 4, "center");
  view.splits.forEach(({labels, found}, n) => {
    const {colour, dash} = SPLITS[n % SPLITS.length];
    polyline(context, recallCurve(view.reference()[n], labels, view.get("category")), x, y, "#A9B0B8", 1.3, dash);
    polyline(context, recallCurve(found.iou, labels, view.get("category")), x, y, colour, 2.2, dash);
  });
  context.strokeStyle = "#0B5CAD";
  context.lineWidth = 1.2;
  segment(context, x(threshold), top, x(threshold), bottom);
  const category = view.get("category");
  const whose = category ? view.categories[category - 1] : "all classes";
  view.title.curve.replaceChildren(`Recall, ${whose} `, make("span", {}, "(drag the line to set the threshold)"));
  const now = view.splits.flatMap(({name}, n) => [lineIcon(SPLITS[n % SPLITS.length]), `${name} ${fixed(counts[n][category].recall)} `]);
  view.legend.curve.replaceChildren(...now, lineIcon({colour: "#A9B0B8", width: 1.6}), `the ${view.get("reference")} anchors`);
}
