"use strict";
// Texts of the corpus are written as text alone. The plane's units are whole numbers; y grows downwards.
const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const plot = byId("plot"), canvas = plot.querySelector("canvas"), context = canvas.getContext("2d");
const count = data.ids.length, other = data.colours.length - 1;
const texts = data.input.map((input, row) => `${input}\n${data.output[row]}`.toLowerCase());
const placeOf = new Map(data.ids.map((id, row) => [id, row]));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const number = value => value.toLocaleString("en");

// How each row is shown; drawn in this order.
const HIDDEN = 0, DIMMED = 1, FAINT = 2, STRONG = 3, HIT = 4, OPACITY = [0, 0.1, 0.35, 0.95, 1];
const level = new Uint8Array(count);
let colour, search, selectedOnly, hidden, pinned, shown, hits = [];
const view = { x: 0, y: 0, zoom: 1 };
let width = 1, height = 1;

const category = () => data.categories[colour];
const colourOf = code => Math.min(code, other);

function filter() {
  const words = search.toLowerCase(), codes = category().codes;
  hits = [];
  for (let row = 0; row < count; row++) {
    const seen = !hidden.has(colourOf(codes[row])) && (data.selected[row] || !selectedOnly);
    const hit = seen && words && texts[row].includes(words);
    if (hit) hits.push(row);
    level[row] = !seen ? HIDDEN : hit ? HIT : words ? DIMMED : data.selected[row] ? STRONG : FAINT;
  }
  hits.sort((one, another) => data.ids[one] - data.ids[another]);
  tellHits();
  redraw();
}

function tellHits() {
  const place = hits.indexOf(pinned), all = `${number(hits.length)} ${hits.length === 1 ? "hit" : "hits"}`;
  byId("hits").textContent = !search ? "" : place < 0 ? all : `${number(place + 1)} of ${all}`;
  for (const id of ["before", "next"]) byId(id).disabled = !hits.length;
}

// Drawing.
const scale = () => 0.94 * Math.min(width / data.size[0], height / data.size[1]) * view.zoom;
const across = x => 50 + 100 * (x - view.x) * scale() / width;
const down = y => 50 + 100 * (y - view.y) * scale() / height;
const colours = data.colours.map(hex => [1, 3, 5].map(place => parseInt(hex.slice(place, place + 2), 16)));

// Pixels of a disc around its middle, as offsets in an image, and how much of each it covers.
function disc(radius, across) {
  const reach = Math.ceil(radius), offsets = [], covers = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = clamp(radius + 0.5 - Math.hypot(x, y), 0, 1);
      if (cover) offsets.push(4 * (y * across + x)), covers.push(cover);
    }
  }
  return { reach, offsets: Int32Array.from(offsets), covers: Float64Array.from(covers) };
}

// Porter and Duff's "over", pixel by pixel.
function stamp(pixels, middle, { offsets, covers }, [red, green, blue, opacity]) {
  for (let place = 0; place < offsets.length; place++) {
    const at = middle + offsets[place], above = covers[place] * opacity, below = pixels[at + 3] / 255 * (1 - above), both = above + below;
    pixels[at] = (red * above + pixels[at] * below) / both;
    pixels[at + 1] = (green * above + pixels[at + 1] * below) / both;
    pixels[at + 2] = (blue * above + pixels[at + 2] * below) / both;
    pixels[at + 3] = 255 * both;
  }
}

// Dots are written into an image: the canvas's own arcs and copies of a picture took 3 to 10 times as long.
function draw(ratio = devicePixelRatio) {
  const right = canvas.width = Math.round(width * ratio), bottom = canvas.height = Math.round(height * ratio);
  const image = context.createImageData(right, bottom), codes = category().codes;
  const radius = ratio * clamp(clamp(220 / Math.sqrt(count), 1.4, 4) * view.zoom ** 0.35, 1.4, 7);
  const unit = scale() * ratio, left = right / 2 - view.x * unit, top = bottom / 2 - view.y * unit;
  for (let pass = 1; pass < OPACITY.length; pass++) {
    const dot = disc(pass === HIT ? 1.6 * radius : radius, right), { reach } = dot;
    const paints = colours.map((rgb, code) => [...(pass === DIMMED ? colours[other] : rgb), OPACITY[pass] * (code === other ? 0.6 : 1)]);
    for (let row = 0; row < count; row++) {
      if (level[row] !== pass) continue;
      const x = Math.round(left + data.x[row] * unit), y = Math.round(top + data.y[row] * unit);
      if (x < reach || y < reach || x >= right - reach || y >= bottom - reach) continue;
      stamp(image.data, 4 * (y * right + x), dot, paints[colourOf(codes[row])]);
    }
  }
  context.putImageData(image, 0, 0);
  placeMarks();
}

// Numbers and the ring lie over the canvas: pointing at another row draws nothing anew, and colours follow the scheme.
function placeMarks() {
  plot.style.setProperty("--shape", width / height);
  byId("labels").replaceChildren(...data.middles.flatMap((middle, place) => {
    if (colour !== "cluster" || !middle || hidden.has(colourOf(place))) return [];
    return [placed(element("span", data.clusters[place].cluster), ...middle)];
  }));
  byId("ring").hidden = shown < 0 || !level[shown];
  byId("ring").classList.toggle("pinned", pinned >= 0);
  if (shown >= 0) placed(byId("ring"), data.x[shown], data.y[shown]);
}

function placed(mark, x, y) {
  mark.style.left = `${across(x)}%`;
  mark.style.top = `${down(y)}%`;
  return mark;
}

let asked = 0;
function redraw() {
  if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); });
  saveLink();
}

// The row nearest to a point, by a grid of 128 by 128 cells over the plane.
const CELLS = 128, SHIFT = 9;
const cellOf = row => (data.y[row] >> SHIFT) * CELLS + (data.x[row] >> SHIFT);
const starts = new Uint32Array(CELLS * CELLS + 1), inCells = new Uint32Array(count);
for (let row = 0; row < count; row++) starts[cellOf(row) + 1]++;
for (let cell = 0; cell < CELLS * CELLS; cell++) starts[cell + 1] += starts[cell];
const ends = starts.slice();
for (let row = 0; row < count; row++) inCells[ends[cellOf(row)]++] = row;

function nearest(left, top, reach) {
  const x = view.x + (left - width / 2) / scale(), y = view.y + (top - height / 2) / scale(), radius = reach / scale();
  const cells = [x - radius, x + radius, y - radius, y + radius].map(at => clamp(at >> SHIFT, 0, CELLS - 1));
  let found = -1, least = radius * radius;
  for (let line = cells[2]; line <= cells[3]; line++) {
    for (let at = starts[line * CELLS + cells[0]]; at < starts[line * CELLS + cells[1] + 1]; at++) {
      const row = inCells[at], distance = (data.x[row] - x) ** 2 + (data.y[row] - y) ** 2;
      if (level[row] && distance <= least) [found, least] = [row, distance];
    }
  }
  return found;
}

// Panels.
const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });
const nameOf = (kind, row) => data.categories[kind].names[data.categories[kind].codes[row]];

function show(row) {
  shown = row;
  byId("hint").hidden = row >= 0;
  byId("row").hidden = row < 0;
  byId("row-heading").textContent = row < 0 ? "Row" : `Row ${data.ids[row]}`;
  if (row >= 0) {
    for (const kind of ["subset", "template", "cluster"]) byId(`row-${kind}`).textContent = nameOf(kind, row);
    byId("row-selected").textContent = data.selected[row] ? "yes" : "no";
    for (const kind of ["input", "output"]) byId(`row-${kind}`).textContent = data[kind][row] || "(empty)";
  }
  placeMarks();
}

function pin(row) {
  pinned = row;
  byId("unpin").hidden = row < 0;
  show(row);
  if (row >= 0) showCluster(data.categories.cluster.codes[row]);
  tellHits();
  saveLink();
}

function goTo(row) {
  pin(row);
  const [left, top] = [across(data.x[row]), down(data.y[row])];
  if (left < 2 || left > 98 || top < 2 || top > 98) [view.x, view.y] = [data.x[row], data.y[row]];
  redraw();
}

function stepHits(by) {
  const place = hits.indexOf(pinned);
  if (hits.length) goTo(hits[place < 0 ? (by > 0 ? 0 : hits.length - 1) : (place + by + hits.length) % hits.length]);
}

function showCluster(place) {
  const described = data.clusters[place];
  byId("cluster").value = place;
  const extra = described.topped_up ? `, ${number(described.topped_up)} of them to top up others` : "";
  byId("cluster-size").textContent = `${number(described.rows)} rows, ${number(described.selected)} selected${extra}.`;
  byId("cluster-words").textContent = described.words.join(", ") || "—";
  for (const kind of ["subsets", "templates"]) {
    const rows = Object.entries(described[kind]).sort((one, another) => another[1] - one[1]).slice(0, 5);
    byId(`cluster-${kind}`).replaceChildren(...rows.map(([name, size]) => {
      const item = element("li", `${name} `);
      item.append(Object.assign(element("span", number(size)), { className: "quiet" }));
      return item;
    }));
  }
  byId("central").replaceChildren(...described.central.map(row => {
    const item = element("li", `${row.input} → ${row.output} `), onMap = placeOf.get(row.row_id);
    if (onMap !== undefined) item.append(Object.assign(element("button", `Row ${row.row_id}`), { type: "button", onclick: () => goTo(onMap) }));
    return item;
  }));
  saveLink();
}

function showLegend() {
  const { names, codes } = category(), sizes = new Map();
  for (let row = 0; row < count; row++) {
    if (data.selected[row] || !selectedOnly) sizes.set(colourOf(codes[row]), (sizes.get(colourOf(codes[row])) || 0) + 1);
  }
  const entries = names.slice(0, other).map((_, code) => code).concat(names.length > other ? [other] : []);
  byId("legend").replaceChildren(...entries.map(code => {
    const item = element("li"), button = element("button"), swatch = Object.assign(element("span"), { className: "swatch" });
    swatch.style.background = data.colours[code];
    const name = code < other ? names[code] : `other (${number(names.length - other)})`;
    button.append(swatch, `${name} `, Object.assign(element("span", number(sizes.get(code) || 0)), { className: "quiet" }));
    Object.assign(button, { type: "button", ariaPressed: !hidden.has(code) });
    button.onclick = () => hide(hidden.has(code) ? [...hidden].filter(one => one !== code) : [...hidden, code]);
    button.ondblclick = () => hide(hidden.size === entries.length - 1 && !hidden.has(code) ? [] : entries.filter(one => one !== code));
    item.append(button);
    return item;
  }));
}

function hide(codes) {
  hidden = new Set(codes);
  [...byId("legend").querySelectorAll("button")].forEach((button, place) => {
    button.ariaPressed = !hidden.has(place);
  });
  filter();
}

// Moving: wheel, drag, pinch, buttons, keys.
function zoom(by, left = width / 2, top = height / 2) {
  const before = scale(), x = view.x + (left - width / 2) / before, y = view.y + (top - height / 2) / before;
  view.zoom = clamp(view.zoom * by, 0.5, 100);
  view.x = x - (left - width / 2) / scale();
  view.y = y - (top - height / 2) / scale();
  redraw();
}

function move(right, down) {
  view.x = clamp(view.x - right / scale(), 0, data.size[0]);
  view.y = clamp(view.y - down / scale(), 0, data.size[1]);
  redraw();
}

function showAll() {
  Object.assign(view, { x: data.size[0] / 2, y: data.size[1] / 2, zoom: 1 });
  redraw();
}

const pointers = new Map();
let travelled = 0;
const spread = () => { const [one, another] = pointers.values(); return another ? Math.hypot(one.x - another.x, one.y - another.y) : 0; };
const centre = () => { const all = [...pointers.values()]; return ["x", "y"].map(axis => all.reduce((sum, at) => sum + at[axis], 0) / all.length); };
const at = event => { const box = plot.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };
const reachOf = event => event.pointerType === "touch" ? 26 : 12;

plot.addEventListener("pointerdown", event => {
  if (event.target.closest("button") || event.button) return;
  plot.setPointerCapture(event.pointerId);
  if (!pointers.size) travelled = 0;
  pointers.set(event.pointerId, at(event));
});
plot.addEventListener("pointermove", event => {
  if (!pointers.has(event.pointerId)) {
    if (pinned < 0 && !event.target.closest("button")) show(nearest(at(event).x, at(event).y, reachOf(event)));
    return;
  }
  const [left, top] = centre(), apart = spread();
  pointers.set(event.pointerId, at(event));
  const [newLeft, newTop] = centre();
  travelled += Math.hypot(newLeft - left, newTop - top) + Math.abs(spread() - apart);
  if (travelled < 4) return;
  plot.classList.add("dragged");
  move(newLeft - left, newTop - top);
  if (apart) zoom(spread() / apart, newLeft, newTop);
});
for (const kind of ["pointerup", "pointercancel"]) plot.addEventListener(kind, event => {
  if (!pointers.delete(event.pointerId)) return;
  plot.classList.remove("dragged");
  if (kind === "pointerup" && travelled < 4) pin(nearest(at(event).x, at(event).y, reachOf(event)));
});
plot.addEventListener("pointerleave", () => { if (pinned < 0) show(-1); });
plot.addEventListener("wheel", event => {
  event.preventDefault();
  const lines = event.deltaY * (event.deltaMode ? 20 : 1);
  zoom(Math.exp(-clamp(lines, -200, 200) * (event.ctrlKey ? 0.01 : 0.002)), at(event).x, at(event).y);
}, { passive: false });
plot.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== plot) return;
  const step = 0.08 * Math.min(width, height), middle = () => nearest(width / 2, height / 2, Math.hypot(width, height) / 4);
  const act = {
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: showAll,
    ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0), ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
    Enter: () => pin(middle()), Escape: () => pin(-1),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
  if (pinned < 0 && event.key !== "Escape") show(middle());
});
plot.addEventListener("focus", () => { if (pinned < 0 && plot.matches(":focus-visible")) show(nearest(width / 2, height / 2, Math.hypot(width, height) / 4)); });

byId("in").onclick = () => zoom(1.6);
byId("out").onclick = () => zoom(1 / 1.6);
byId("all").onclick = showAll;
byId("unpin").onclick = () => pin(-1);
byId("before").onclick = () => stepHits(-1);
byId("next").onclick = () => stepHits(1);
byId("search").oninput = event => { search = event.target.value; filter(); };
byId("search").onkeydown = event => { if (event.key === "Enter") stepHits(event.shiftKey ? -1 : 1); };
byId("cluster").onchange = event => showCluster(Number(event.target.value));
byId("colour").onchange = event => { colour = event.target.value; hidden = new Set(); showLegend(); filter(); };
byId("selected").onchange = event => { selectedOnly = event.target.checked; showLegend(); filter(); };

// A view is kept in the page's address, so that it can be sent to someone who has the file.
let saving = 0, saved;
function saveLink() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    const all = view.zoom === 1 && view.x === data.size[0] / 2 && view.y === data.size[1] / 2;
    const parts = { colour: colour === "cluster" ? "" : colour, search, selected: selectedOnly ? "1" : "", hidden: [...hidden].join(), row: pinned < 0 ? "" : data.ids[pinned] };
    parts.view = all ? "" : [Math.round(view.x), Math.round(view.y), view.zoom.toFixed(2)].join();
    saved = `#${new URLSearchParams(Object.entries(parts).filter(([, value]) => value !== ""))}`;
    history.replaceState(null, "", saved);
  }, 300);
}

function openLink() {
  const link = new URLSearchParams(location.hash.slice(1)), get = name => link.get(name) || "";
  const [x, y, times] = get("view").split(",").map(Number), row = placeOf.get(Number(link.get("row") ?? NaN));
  colour = Object.hasOwn(data.categories, get("colour")) ? get("colour") : "cluster";
  [search, selectedOnly] = [get("search"), get("selected") === "1"];
  hidden = new Set(get("hidden").split(",").filter(Boolean).map(Number).filter(Number.isInteger));
  [byId("colour").value, byId("search").value, byId("selected").checked] = [colour, search, selectedOnly];
  showAll();
  if (times > 0) Object.assign(view, { x: clamp(x, 0, data.size[0]), y: clamp(y, 0, data.size[1]), zoom: clamp(times, 0.5, 100) });
  showLegend();
  pin(row ?? -1);
  filter();
}

data.categories.cluster.names.forEach((name, place) => byId("cluster").append(Object.assign(element("option", name), { value: place })));
pinned = shown = -1;
[width, height] = [plot.clientWidth, plot.clientHeight];
colour = "cluster";
[search, selectedOnly, hidden] = ["", false, new Set()];
showCluster(0);
openLink();
addEventListener("hashchange", () => { if (location.hash !== saved) openLink(); });
new ResizeObserver(() => { [width, height] = [plot.clientWidth, plot.clientHeight]; draw(); }).observe(plot);
addEventListener("beforeprint", () => draw(3));
addEventListener("afterprint", () => draw());
