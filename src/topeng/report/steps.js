"use strict";
// Tokens of an answer as they stood at a step of its denoising. Their texts are written as text alone.
const { words, films } = JSON.parse(document.getElementById("films").textContent);
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const make = (name, className) => Object.assign(document.createElement(name), { className });

// An element a token; its white space stays outside, so that masks stand apart as words do. Hidden text keeps the
// lines as they will be, and no screen reader says it.
function lay(place) {
  const { pieces, at } = films[Number(place.dataset.film)], tokens = [];
  place.replaceChildren(...pieces.flatMap((piece, index) => {
    const text = piece.trimStart(), token = make("span", "token"), inner = make("span");
    inner.textContent = text;
    token.append(inner);
    tokens.push([token, at[index]]);
    return [piece.slice(0, piece.length - text.length), token];
  }));
  return tokens;
}

function start(row) {
  const player = row.querySelector(".player"), [button, slider, output] = player.children;
  const last = Number(slider.max);
  let tokens = null, timer = null;

  function show(step) {
    tokens ??= [...row.querySelectorAll("[data-film]")].flatMap(lay);
    for (const [token, at] of tokens) {
      token.classList.toggle("masked", at > step);
      token.classList.toggle("new", at === step && step > 0 && step < last);
    }
    slider.value = step;
    slider.setAttribute("aria-valuetext", fill(words.step, { step, last }));
    output.textContent = `${step} / ${last}`;
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
  button.addEventListener("click", play);
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  addEventListener("beforeprint", () => { stop(); if (tokens) show(last); });
  slider.value = last;
  player.hidden = false;
}

document.querySelectorAll(".row").forEach(row => { if (row.querySelector(".player")) start(row); });
document.querySelectorAll(".needs-script").forEach(text => { text.hidden = false; });
