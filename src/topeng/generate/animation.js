// The masks of each answer, as they stood after a pass of the model.
const players = [...document.querySelectorAll("article")].map(article => {
  const tokens = [...article.querySelectorAll(".token")].map(token => [token, Number(token.dataset.pass)]);
  const [box, button, slider, output] = [".player", "button", "input", "output"].map(name => article.querySelector(name));
  const player = makePlayer(button, slider, output, document.body.dataset, () => tokens);
  player.step = by => player.seek(Number(slider.value) + by);
  article.addEventListener("pointerdown", () => { active = player; });
  article.addEventListener("focusin", () => { active = player; });
  addEventListener("beforeprint", () => player.seek(player.last));
  box.hidden = false;
  player.show(new URLSearchParams(location.hash.slice(1)).get("pass") ?? player.last);
  return player;
});
let active = players[0];
document.addEventListener("keydown", event => {
  if (!active || event.target.closest("input, button, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { " ": active.play, ArrowLeft: () => active.step(-1), ArrowRight: () => active.step(1) }[event.key];
  if (act) { event.preventDefault(); act(); }
});
