/** The anchor studio's looks: colours, style sheet, elements, and what is drawn on any canvas. */

const INK = "#222222", FAINT = "#6B6B6B", RULE = "#DADEE3";
const COVERED = "#00785A", MISSED = "#D55E00";  // told apart by colour-blind readers, and solid against dashed
const SPLITS = [{colour: INK, dash: []}, {colour: "#0072B2", dash: [7, 4]}];  // train, val
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98]];
const MARKS = ["circle", "square", "diamond", "up", "down", "cross"];
const FONT = "12px system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', Arial, sans-serif";
const MAX_HEIGHT = 300;  // px, of a picture that is not a panorama

const CSS = `
:host{all:initial;display:block;font:13px/1.45 ${FONT.slice(5)};color:${INK};background:#fff;color-scheme:light}
*{box-sizing:border-box}
#studio{padding:4px 2px 2px;max-width:1200px;outline:none}
.bar{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin-bottom:8px}
.group{display:flex;flex-wrap:wrap;gap:4px;align-items:center}
label,.lead{color:${FAINT}}
button,select,input{font:inherit;color:${INK};background:#fff;border:1px solid #C3C9D0;border-radius:5px;padding:2px 9px;min-height:26px;margin:0}
button{cursor:pointer}button:hover{background:#F1F4F7}
button[aria-pressed=true]{background:#E3ECF5;border-color:#0B5CAD;box-shadow:inset 0 0 0 1px #0B5CAD}
button[aria-disabled=true]{color:#9AA1A9;border-color:#DDE1E6;cursor:not-allowed;background:#FAFBFC}
:is(button,select,input,canvas,textarea,summary,.scroll):focus-visible{outline:2px solid #0B5CAD;outline-offset:1px}
input[type=range]{padding:0;border:0;min-height:20px;width:100%;accent-color:#0B5CAD}
input[type=number]{width:84px;text-align:right;padding:2px 4px}input[type=text]{width:150px}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:6px 22px;border-block:1px solid ${RULE};padding:7px 0;
margin-bottom:8px}
.number b{display:block;font-weight:500;color:${FAINT}}
.number span{font-size:19px;font-weight:600;font-variant-numeric:tabular-nums}.number i{font-style:normal;font-size:13px;font-weight:400;
color:${FAINT}}
.number small{display:block;color:${FAINT};font-size:12px;font-variant-numeric:tabular-nums}
.grid{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:10px 18px}
.grid>*{min-width:0}.wide .overview{grid-column:1/-1}.tall .panel{order:1;grid-column:1/-1}
h4{font-size:13px;font-weight:600;margin:0 0 3px}h4 span{font-weight:400;color:${FAINT}}
canvas{display:block;width:100%;border-radius:2px}.detail canvas,.cloud canvas{height:300px}.curve canvas{height:236px}
.tall .curve canvas{height:300px}
:is(.cloud,.curve) canvas{touch-action:none}.cloud canvas{cursor:crosshair}.overview canvas,.detail canvas{cursor:pointer}
.legend{color:${FAINT};font-size:12px;margin:3px 0 0;min-height:18px}.legend svg{vertical-align:-2px;margin:0 3px 0 9px}
.legend svg:first-child{margin-left:0}
.levels,.shapes{display:flex;flex-wrap:wrap;gap:4px;margin-bottom:7px}
.levels button svg{vertical-align:-2px;margin-right:4px}.shapes button{font-variant-numeric:tabular-nums;font-size:12px;line-height:1.2;
padding:3px 5px;min-width:72px}
.shapes small{display:block;color:${FAINT};font-size:11px}
.sliders{display:grid;grid-template-columns:max-content minmax(60px,1fr) max-content;gap:3px 10px;align-items:center;margin-bottom:4px}
.scroll{max-height:330px;overflow:auto;margin-top:12px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:2px 10px;text-align:right;border-bottom:1px solid #ECEFF2;font-weight:400;white-space:nowrap}
thead th{color:${FAINT};position:sticky;top:0;background:#fff;border-bottom-color:#AAB4BF}th:first-child{text-align:left}
td.bar-cell{background-repeat:no-repeat;background-position:0 3px;background-size:0 calc(100% - 6px);
background-image:linear-gradient(#DCE7F1,#DCE7F1)}
tbody button{border:0;padding:0 4px;min-height:20px;background:none;text-align:left}tbody tr.chosen{background:#F2F6FA}
tbody tr.chosen button{font-weight:600}
.said{min-height:20px;color:${FAINT};margin:-2px 0 5px}
textarea{width:100%;height:150px;font:12px/1.45 "JetBrains Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;border:1px solid #C3C9D0;
border-radius:5px}
@media(max-width:640px){.grid{grid-template-columns:minmax(0,1fr)}}
`;

/** The colour of a level, from dark to light as strides grow. */
function levelColour(k, levels) {
  const at = (VIRIDIS.length - 1) * (levels > 1 ? k / (levels - 1) : 0), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[low].map((c, n) => Math.round(c + (VIRIDIS[low + 1][n] - c) * (at - low)))})`;
}

/** The path of a level's mark around (0, 0), `r` px in radius. */
function mark(k, r) {
  switch (MARKS[k % MARKS.length]) {
    case "circle": return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
    case "square": return `M${-r * 0.9} ${-r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}z`;
    case "diamond": return `M0 ${-r * 1.25}L${r * 1.25} 0L0 ${r * 1.25}L${-r * 1.25} 0z`;
    case "up": return `M0 ${-r * 1.2}L${r * 1.15} ${r * 0.9}H${-r * 1.15}z`;
    case "down": return `M0 ${r * 1.2}L${r * 1.15} ${-r * 0.9}H${-r * 1.15}z`;
    default: {
      const a = r * 0.4, b = r * 1.15;
      return `M${-a} ${-b}H${a}V${-a}H${b}V${a}H${a}V${b}H${-a}V${a}H${-b}V${-a}H${-a}z`;
    }
  }
}

/** An element with attributes, listeners (functions under `on...`) and children; text stays text. */
function make(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const markIcon = (k, colour) => make("svg", {width: 13, height: 13, viewBox: "-7 -7 14 14", "aria-hidden": "true"},
  make("path", {d: mark(k, 5), fill: colour}));
const lineIcon = ({colour, dash = [], width = 2.4}) => make("svg", {width: 26, height: 12, viewBox: "0 0 26 12", "aria-hidden": "true"},
  make("path", {d: "M1 6H25", stroke: colour, "stroke-width": width, "stroke-dasharray": dash.join(" ")}));
const fixed = (value, digits = 3) => Number.isFinite(value) ? value.toFixed(digits) : "–";
const whole = value => value.toLocaleString("en-US");
const pixels = value => value >= 99.95 ? value.toFixed(0) : value.toFixed(1);
const median = values => Float64Array.from(values).sort()[values.length >> 1];

/** A frame around a rectangle [x, y, w, h] of the canvas, on a light halo. */
function outline(context, rectangle, colour, width, dash = []) {
  context.setLineDash([]);
  context.lineWidth = width + 2;
  context.strokeStyle = "rgba(255,255,255,.75)";
  context.strokeRect(...rectangle);
  context.setLineDash(dash);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.strokeRect(...rectangle);
  context.setLineDash([]);
}

/** Sixteen colours from one to another as the four bytes of a pixel. */
const shades = (from, to) => new Uint32Array(new Uint8ClampedArray(Array.from({length: 16}, (_, n) =>
  [...from.map((c, part) => c + (to[part] - c) * n / 15), 255]).flat()).buffer);
const BLUE = shades([226, 234, 242], [104, 142, 178]), ORANGE = shades([252, 222, 190], [214, 96, 10]);

const swatch = colour => make("svg", {width: 13, height: 13, viewBox: "0 0 13 13", "aria-hidden": "true"},
  make("path", {d: "M1 1h11v11H1z", fill: colour}));

function segment(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function text(context, words, x, y, align) {
  context.textAlign = align;
  context.fillText(words, x, y);
}

function polyline(context, values, x, y, colour, width, dash) {
  if (!values) return;
  context.beginPath();
  values.forEach((value, n) => context.lineTo(x(n / STEPS), y(value)));
  [context.strokeStyle, context.lineWidth] = [colour, width];
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/** Lines and numbers at 1, 2, 5, 10, ... px of both axes. */
function ticks(context, map) {
  const values = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
  context.lineWidth = 1;
  context.strokeStyle = "rgba(60,70,80,.13)";
  context.fillStyle = FAINT;
  for (const value of values) {
    const x = map.x(value), y = map.y(value);
    if (x > map.left && x < map.right) {
      segment(context, x, map.top, x, map.bottom);
      text(context, String(value), x, map.bottom + 14, "center");
    }
    if (y > map.top && y < map.bottom) {
      segment(context, map.left, y, map.right, y);
      text(context, String(value), map.left - 6, y + 4, "right");
    }
  }
  text(context, "width, px", (map.left + map.right) / 2, map.bottom + 30, "center");
  context.save();
  context.translate(11, (map.top + map.bottom) / 2);
  context.rotate(-Math.PI / 2);
  text(context, "height, px", 0, 0, "center");
  context.restore();
}
