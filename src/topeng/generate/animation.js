"use strict";
// The masks of each answer, as they stood after a pass of the model.
const words = document.body.dataset;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

const players = [...document.querySelectorAll("article")].map(article => {
  const tokens = [...article.querySelectorAll(".token")];
  const [box, button, slider, output] = [".player", "button", "input", "output"].map(name => article.querySelector(name));
  const last = Number(slider.max);
  let timer = null;

  function show(pass) {
    slider.value = pass;
    const now = Number(slider.value);
    slider.setAttribute("aria-valuetext", fill(words.step, { step: now, last }));
    output.textContent = `${now} / ${last}`;
    for (const token of tokens) {
      const at = Number(token.dataset.pass);
      token.classList.toggle("masked", at > now);
      token.classList.toggle("new", at > 0 && at === now && now < last);
    }
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.ariaLabel = words.play;
    button.classList.remove("playing");
  }
  function play() {
    if (timer) return stop();
    if (Number(slider.value) === last) show(0);
    button.ariaLabel = words.pause;
    button.classList.add("playing");
    timer = setInterval(() => {
      show(Number(slider.value) + 1);
      if (Number(slider.value) === last) stop();
    }, Math.max(60, Math.min(400, 8000 / last)));
  }
  function step(by) {
    stop();
    show(Number(slider.value) + by);
  }

  const player = { play, step };
  slider.addEventListener("input", () => { stop(); show(slider.value); });
  button.addEventListener("click", play);
  article.addEventListener("pointerdown", () => { active = player; });
  article.addEventListener("focusin", () => { active = player; });
  addEventListener("beforeprint", () => { stop(); show(last); });
  box.hidden = false;
  const asked = new URLSearchParams(location.hash.slice(1)).get("pass");
  show(asked ?? last);
  return player;
});
let active = players[0];
document.addEventListener("keydown", event => {
  if (!active || event.target.closest("input, button, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { " ": active.play, ArrowLeft: () => active.step(-1), ArrowRight: () => active.step(1) }[event.key];
  if (act) { event.preventDefault(); act(); }
});
