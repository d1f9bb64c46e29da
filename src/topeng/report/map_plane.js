"use strict";
// The plane: which part of it is seen, its dots, and the row nearest to a point. Units are whole; y grows downwards.
const byId = id => document.getElementById(id);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const data = JSON.parse(byId("data").textContent), count = data.ids.length;
const plot = byId("plot"), canvas = plot.querySelector("canvas"), context = canvas.getContext("2d");

// How each row is shown; drawn in this order.
const HIDDEN = 0, DIMMED = 1, FAINT = 2, STRONG = 3, HIT = 4, OPACITY = [0, 0.1, 0.35, 0.95, 1];
const level = new Uint8Array(count);

// The place in the middle, and how many times as large as when all is shown; lengths in CSS pixels.
const view = { x: 0, y: 0, zoom: 1 };
let width = 1, height = 1;

const scale = () => 0.92 * view.zoom * Math.min(width / Math.max(1, data.size[0]), height / Math.max(1, data.size[1]));
const across = x => 50 + 100 * (x - view.x) * scale() / width;
const down = y => 50 + 100 * (y - view.y) * scale() / height;
const under = (left, top) => [view.x + (left - width / 2) / scale(), view.y + (top - height / 2) / scale()];

function look(x, y, zoom = view.zoom) {
  view.x = clamp(x, 0, data.size[0]);
  view.y = clamp(y, 0, data.size[1]);
  view.zoom = clamp(zoom, 0.5, 100);
  redraw();
}

const showAll = () => look(data.size[0] / 2, data.size[1] / 2, 1);
const move = (right, below) => look(view.x - right / scale(), view.y - below / scale());

// What is under the pointer stays there.
function zoom(by, left = width / 2, top = height / 2) {
  const [x, y] = under(left, top);
  view.zoom = clamp(view.zoom * by, 0.5, 100);
  const [newX, newY] = under(left, top);
  look(view.x + x - newX, view.y + y - newY);
}

const rgb = hex => [1, 3, 5].map(place => parseInt(hex.slice(place, place + 2), 16));
const colours = data.colours.map(rgb), other = colours.length - 1;
const colourOf = code => Math.min(code, other);

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
    const at = middle + offsets[place], above = covers[place] * opacity;
    const below = pixels[at + 3] / 255 * (1 - above), both = above + below;
    pixels[at] = (red * above + pixels[at] * below) / both;
    pixels[at + 1] = (green * above + pixels[at + 1] * below) / both;
    pixels[at + 2] = (blue * above + pixels[at + 2] * below) / both;
    pixels[at + 3] = 255 * both;
  }
}

// Dots are written into an image: without a GPU, the canvas's own arcs and copied dots took 3 to 10 times as long.
function draw(ratio = Math.min(2, devicePixelRatio)) {
  const right = canvas.width = Math.round(width * ratio), bottom = canvas.height = Math.round(height * ratio);
  const image = context.createImageData(right, bottom), codes = category().codes;
  const all = Math.max(clamp(220 / Math.sqrt(count), 1.4, 4), Math.min(40 / Math.sqrt(count), 7));  // few dots are large
  const radius = ratio * clamp(all * view.zoom ** 0.35, 1.4, 9);
  const unit = scale() * ratio, left = right / 2 - view.x * unit, top = bottom / 2 - view.y * unit;
  for (let pass = DIMMED; pass <= HIT; pass++) {
    const dot = disc(pass === HIT ? 1.6 * radius : radius, right), { reach } = dot;
    const paints = colours.map((colour, code) => {
      return [...(pass === DIMMED ? colours[other] : colour), OPACITY[pass] * (code === other ? 0.6 : 1)];
    });
    for (let row = 0; row < count; row++) {
      if (level[row] !== pass) continue;
      const x = Math.round(left + data.x[row] * unit), y = Math.round(top + data.y[row] * unit);
      if (x < reach || y < reach || x >= right - reach || y >= bottom - reach) continue;
      stamp(image.data, 4 * (y * right + x), dot, paints[colourOf(codes[row])]);
    }
  }
  context.putImageData(image, 0, 0);
  plot.style.setProperty("--shape", width / height);
  placeNames();
  placeRing();
}

// A grid of 128 by 128 cells over the plane, so that pointing looks at a few rows, not at all.
const CELLS = 128, SHIFT = 9;
const cellOf = row => (data.y[row] >> SHIFT) * CELLS + (data.x[row] >> SHIFT);
const starts = new Uint32Array(CELLS * CELLS + 1), inCells = new Uint32Array(count);
for (let row = 0; row < count; row++) starts[cellOf(row) + 1]++;
for (let cell = 0; cell < CELLS * CELLS; cell++) starts[cell + 1] += starts[cell];
const ends = starts.slice();
for (let row = 0; row < count; row++) inCells[ends[cellOf(row)]++] = row;

// The row nearest to a point within so many pixels, or -1.
function nearest(left, top, within) {
  const [x, y] = under(left, top), radius = within / scale();
  const cell = at => clamp(Math.floor(at), 0, (CELLS << SHIFT) - 1) >> SHIFT;
  let found = -1, least = radius * radius;
  for (let line = cell(y - radius); line <= cell(y + radius); line++) {
    const first = starts[line * CELLS + cell(x - radius)], end = starts[line * CELLS + cell(x + radius) + 1];
    for (let place = first; place < end; place++) {
      const row = inCells[place], distance = (data.x[row] - x) ** 2 + (data.y[row] - y) ** 2;
      if (level[row] && distance <= least) [found, least] = [row, distance];
    }
  }
  return found;
}
