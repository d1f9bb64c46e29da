// Mouse, touch, wheel, keys and controls.
const pointers = new Map();
let travelled = 0;
const at = event => {
  const box = plot.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const nearestTo = event => nearest(...at(event), event.pointerType === "touch" ? 26 : 12);
const nearestToMiddle = () => nearest(width / 2, height / 2, Math.hypot(width, height) / 4);

// Of the pointers that are down: their middle, and how far two of them are apart.
function grip() {
  const [one, another = one] = pointers.values();
  const [left, top] = [0, 1].map(axis => (one[axis] + another[axis]) / 2);
  return { left, top, apart: Math.hypot(one[0] - another[0], one[1] - another[1]) };
}

plot.addEventListener("pointerdown", event => {
  if (event.target.closest("button") || event.button || pointers.size === 2) return;
  plot.setPointerCapture(event.pointerId);
  if (!pointers.size) travelled = 0;
  pointers.set(event.pointerId, at(event));
});
plot.addEventListener("pointermove", event => {
  if (!pointers.has(event.pointerId)) {
    if (pinned < 0 && !event.target.closest("button")) show(nearestTo(event));
    return;
  }
  const before = grip();
  pointers.set(event.pointerId, at(event));
  const now = grip();
  travelled += Math.hypot(now.left - before.left, now.top - before.top) + Math.abs(now.apart - before.apart);
  if (travelled < 4) return;
  plot.classList.add("dragged");
  move(now.left - before.left, now.top - before.top);
  if (before.apart) zoom(now.apart / before.apart, now.left, now.top);
});
function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  plot.classList.remove("dragged");
  if (event.type === "pointerup" && travelled < 4) pinInView(nearestTo(event));
}
plot.addEventListener("pointerup", release);
plot.addEventListener("pointercancel", release);
plot.addEventListener("pointerleave", () => { if (pinned < 0) show(-1); });
plot.addEventListener("wheel", event => {
  event.preventDefault();
  const pixels = clamp(event.deltaY * (event.deltaMode ? 20 : 1), -200, 200);
  zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));  // a pinch on a touchpad comes with Ctrl
}, { passive: false });

const KEYS = {
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: showAll,
  ArrowLeft: step => move(step, 0), ArrowRight: step => move(-step, 0),
  ArrowUp: step => move(0, step), ArrowDown: step => move(0, -step),
  Enter: () => pinInView(nearestToMiddle()), Escape: () => pin(-1),
};
plot.addEventListener("keydown", event => {
  const ours = event.target === plot && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!ours || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key](0.08 * Math.min(width, height));
  if (pinned < 0 && event.key !== "Escape") show(nearestToMiddle());
});
plot.addEventListener("focus", () => {
  if (pinned < 0 && plot.matches(":focus-visible")) show(nearestToMiddle());
});

byId("in").onclick = () => zoom(1.6);
byId("out").onclick = () => zoom(1 / 1.6);
byId("all").onclick = showAll;
byId("unpin").onclick = () => pin(-1);
byId("before").onclick = () => stepHits(-1);
byId("next").onclick = () => stepHits(1);
byId("search").oninput = event => { search = event.target.value; filter(); };
byId("search").onkeydown = event => { if (event.key === "Enter") stepHits(event.shiftKey ? -1 : 1); };
byId("cluster").onchange = event => showCluster(Number(event.target.value));
byId("colour").onchange = event => { colour = event.target.value; hidden.clear(); showLegend(); };
byId("selected").onchange = event => { selectedOnly = event.target.checked; showLegend(); };

data.categories.cluster.names.forEach((name, place) => byId("cluster").append(make("option", name, { value: place })));
[width, height] = [plot.clientWidth, plot.clientHeight];
showCluster(0);
openLink();
addEventListener("hashchange", () => { if (location.hash !== saved) openLink(); });
new ResizeObserver(() => {
  if (!plot.clientWidth || !plot.clientHeight) return; // it is hidden: there is nothing to draw
  [width, height] = [plot.clientWidth, plot.clientHeight];
  draw();
}).observe(plot);
addEventListener("beforeprint", () => draw(3));
addEventListener("afterprint", () => draw());
