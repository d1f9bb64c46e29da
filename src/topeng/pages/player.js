"use strict";
// A slider over the steps of a denoising, with a button that plays it: of the report and of the animation.
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

// `words`: step, play and pause. `tokens()`: pairs of an element and the step that committed it, 0 where none did.
function makePlayer(button, slider, output, words, tokens) {
  const last = Number(slider.max);
  let timer = null;

  function show(step) {
    slider.value = step;
    const now = Number(slider.value);
    slider.setAttribute("aria-valuetext", fill(words.step, { step: now, last }));
    output.textContent = `${now} / ${last}`;
    for (const [token, at] of tokens()) {
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
  function seek(step) {
    stop();
    show(step);
  }
  button.addEventListener("click", play);
  slider.addEventListener("input", () => seek(slider.value));
  return { last, play, seek, show, stop };
}
