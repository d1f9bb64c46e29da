// What is around the plane: search, legend, the row, its cluster. Texts of the corpus are written as text alone.
const number = value => value.toLocaleString(document.documentElement.lang);
const say = (key, values = {}) => data.words[key].replace(/{(\w+)}/g, (_, name) => values[name]);
const percent = share => share.toLocaleString(document.documentElement.lang, { style: "percent", maximumFractionDigits: share < 0.01 ? 1 : 0 });
const make = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
const quiet = text => make("span", text, { className: "quiet" });
const button = (text, onclick) => make("button", text, { type: "button", onclick });
const placeOf = new Map(data.ids.map((id, row) => [id, row]));
const texts = data.input.map((input, row) => `${input}\n${data.output[row]}`.toLowerCase());

let colour = "cluster", search = "", selectedOnly = false, hidden = new Set();  // hidden colours of the legend
let pinned = -1, shown = -1, hits = [];  // rows, by their places in the data
const category = () => data.categories[colour];
const counts = row => data.selected[row] || !selectedOnly;

function filter() {
  const words = search.toLowerCase(), { codes } = category();
  hits = [];
  for (let row = 0; row < count; row++) {
    const seen = !hidden.has(colourOf(codes[row])) && counts(row), hit = seen && words && texts[row].includes(words);
    if (hit) hits.push(row);
    level[row] = !seen ? HIDDEN : hit ? HIT : words ? DIMMED : data.selected[row] ? STRONG : FAINT;
  }
  hits.sort((one, another) => data.ids[one] - data.ids[another]);
  tellHits();
  redraw();
}

function tellHits() {
  const place = hits.indexOf(pinned), all = say(hits.length === 1 ? "map_hit" : "map_hits", { hits: number(hits.length) });
  byId("hits").textContent = !search ? "" : place < 0 ? all : say("map_hit_of", { hit: number(place + 1), all });
  for (const id of ["before", "next"]) byId(id).disabled = !hits.length;
}

function stepHits(by) {
  const place = hits.indexOf(pinned), from = place < 0 && by < 0 ? 0 : place;
  if (hits.length) goTo(hits[(from + by + hits.length) % hits.length]);
}

let asked = 0;
function redraw() {
  if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); });
  saveLink();
}

// The ring lies over the canvas: pointing at another row draws nothing anew, and its colours follow the scheme.
function placeRing() {
  const ring = byId("ring");
  ring.hidden = shown < 0 || !level[shown];
  ring.classList.toggle("pinned", pinned >= 0);
  if (shown >= 0) [ring.style.left, ring.style.top] = [`${across(data.x[shown])}%`, `${down(data.y[shown])}%`];
}

function show(row) {
  shown = row;
  byId("hint").hidden = row >= 0;
  byId("row").hidden = row < 0;
  byId("row-heading").textContent = row < 0 ? say("map_row") : say("row", { row: data.ids[row] });
  if (row >= 0) {
    for (const [kind, { names, codes }] of Object.entries(data.categories)) {
      byId(`row-${kind}`).textContent = names[codes[row]];
    }
    byId("row-selected").textContent = say(data.selected[row] ? "map_yes" : "map_no");
    for (const kind of ["input", "output"]) byId(`row-${kind}`).textContent = data[kind][row] || say("map_no_text");
  }
  placeRing();
}

function pin(row) {
  pinned = row;
  byId("unpin").hidden = row < 0;
  show(row);
  if (row >= 0) showCluster(data.categories.cluster.codes[row]);
  tellHits();
  saveLink();
}

// On a phone a row's text stands below the plane.
function pinInView(row) {
  pin(row);
  if (row < 0) return;
  const card = byId("row").closest(".card");
  card.scrollTop = 0;
  card.scrollIntoView({ block: "nearest" });
}

function goTo(row) {
  pinInView(row);
  const outside = [across(data.x[row]), down(data.y[row])].some(at => at < 2 || at > 98);
  if (outside) look(data.x[row], data.y[row]);
}

function showCluster(place) {
  const { rows, selected, topped_up: extra, words, central, ...parts } = data.clusters[place];
  const dots = data.categories.cluster.codes.map((code, row) => code === place ? row : -1).filter(row => row >= 0);
  const strong = dots.filter(row => data.selected[row]);
  byId("cluster").value = place;
  byId("cluster-rows").textContent = say("map_rows_size", { rows: number(rows), selected: number(selected) })
    + (extra ? say("map_extra", { extra: number(extra) }) : "");
  if (byId("cluster-dots")) {  // the dots are not all rows
    byId("cluster-dots").textContent = say("map_dots_size", { dots: number(dots.length), selected: number(strong.length) });
  }
  byId("cluster-words").textContent = words.join(", ") || "—";
  for (const kind of ["subsets", "templates"]) {
    const most = Object.entries(parts[kind]).sort((one, another) => another[1] - one[1]).slice(0, 5);
    byId(`cluster-${kind}`).replaceChildren(...most.map(([name, size]) => {
      const item = make("li", `${name} `);
      item.append(quiet(percent(size / rows)));
      return item;
    }));
  }
  byId("cluster-central").replaceChildren(...central.map(row => {
    const item = make("li", `${row.input} → ${row.output} `), onMap = placeOf.get(row.row_id);
    if (onMap !== undefined) item.append(button(say("row", { row: row.row_id }), () => goTo(onMap)));
    return item;
  }));
}

function showLegend() {
  const { names, codes } = category(), sizes = new Array(other + 1).fill(0);
  for (let row = 0; row < count; row++) sizes[colourOf(codes[row])] += counts(row) ? 1 : 0;
  const shades = [...sizes.keys()].slice(0, names.length);
  byId("legend").replaceChildren(...shades.map(shade => {
    const name = shade < other ? names[shade] : say("map_others", { count: number(names.length - other) });
    const item = make("li"), swatch = make("span", "", { className: "swatch" });
    const others = shades.filter(one => one !== shade), without = () => [...hidden].filter(one => one !== shade);
    const entry = button("", () => hide(hidden.has(shade) ? without() : [...hidden, shade]));
    entry.ondblclick = () => hide(others.every(one => hidden.has(one)) ? [] : others);
    swatch.style.background = data.colours[shade];
    entry.append(swatch, `${name} `, quiet(number(sizes[shade])));
    item.append(entry);
    return item;
  }));
  hide(hidden);
}

function hide(shades) {
  hidden = new Set(shades);
  byId("legend").querySelectorAll("button").forEach((entry, shade) => { entry.ariaPressed = !hidden.has(shade); });
  filter();
}

// A view is kept in the page's address, so that it can be sent to someone who has the file.
let saving = 0, saved = location.hash;
function saveLink() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    const all = view.zoom === 1 && view.x === data.size[0] / 2 && view.y === data.size[1] / 2;
    const parts = {
      colour: colour === "cluster" ? "" : colour,
      search,
      selected: selectedOnly ? "1" : "",
      hidden: [...hidden].join(),
      row: pinned < 0 ? "" : `${data.ids[pinned]}`,
      view: all ? "" : [Math.round(view.x), Math.round(view.y), view.zoom.toFixed(2)].join(),
    };
    saved = `#${new URLSearchParams(Object.entries(parts).filter(([, value]) => value))}`;
    history.replaceState(null, "", saved);
  }, 300);
}

function openLink() {
  const link = new URLSearchParams(location.hash.slice(1)), get = name => link.get(name) || "";
  const numbers = name => get(name).split(",").filter(Boolean).map(Number).filter(Number.isFinite);
  colour = Object.hasOwn(data.categories, get("colour")) ? get("colour") : "cluster";
  search = get("search");
  selectedOnly = get("selected") === "1";
  hidden = new Set(numbers("hidden"));
  [byId("colour").value, byId("search").value, byId("selected").checked] = [colour, search, selectedOnly];
  numbers("view").length === 3 ? look(...numbers("view")) : showAll();
  pin(placeOf.get(numbers("row")[0]) ?? -1);
  showLegend();
}
