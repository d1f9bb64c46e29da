// An answer as tokens: live while steps come, then under the player. Texts are written as text alone.
const words = JSON.parse(document.getElementById("words").textContent);
const make = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });
const END = /^<\|.*\|>$/; // one token that reads so is no text: the model's end of a turn or of a text
const level = confidence => [0.3, 0.5, 0.7, 0.9].filter(bound => confidence >= bound).length;

// One answer of one model, in its own box.
function makeAnswer(model, choosePlace) {
  const box = make("article", "answer"), canvas = make("div", "canvas live"), spent = make("p", "spent quiet", words.waiting);
  const heard = make("p", "heard");
  heard.setAttribute("aria-live", "polite");
  canvas.setAttribute("aria-hidden", "true");
  box.append(make("h2", "", model), canvas, heard, spent);
  let state = null, laid = [];

  // White space before a token stands apart from it, so that masks stand apart as words do; before the first there is none.
  function lay(count) {
    laid = [];
    canvas.replaceChildren(...state.tokens.slice(0, count).flatMap((piece, place) => {
      const text = (piece ?? "").trimStart(), end = END.test(text), token = make("span", end ? "token end" : "token");
      token.append(make("span", "", end ? "∎" : text));
      token.dataset.place = place;
      laid.push([token, state.committed_at[place]]);
      if (piece === null) token.classList.add("masked");
      else if (!state.committed_at[place]) {
        const goesOn = text === piece && laid[place - 1]?.[0].classList.contains("given"); // one word, one frame
        token.classList.add("given", ...(goesOn ? ["on"] : []));
      }
      else {
        token.classList.add(`c${level(state.confidence[place])}`);
        token.title = fill(words.token, { place, step: state.committed_at[place], confidence: state.confidence[place].toFixed(2) });
        if (state.committed_at[place] === state.step && canvas.classList.contains("live")) token.classList.add("new");
      }
      return [place ? (piece ?? "").slice(0, (piece ?? "").length - text.length) : "", token];
    }));
  }
  function step(event) {
    state = event;
    spent.textContent = fill(words.step, { step: event.step, last: event.masked.length });
    lay(event.tokens.length);
  }
  function done(event) {
    canvas.classList.remove("live");
    lay(event.tokens);
    heard.textContent = event.text || words.nothing;
    if (!event.tokens) canvas.append(make("em", "quiet", words.nothing));
    spent.textContent = fill(words.spent, { tokens: event.tokens, steps: state.step, seconds: event.seconds.toFixed(1) })
      + (event.finish_reason === "length" ? `, ${words.cut}` : "");
    if (event.tokens && state.step) box.insertBefore(playerOf(model, state.step, () => laid), spent);
  }
  function stop() {
    if (canvas.classList.contains("live")) spent.textContent = words.stopped;
  }
  canvas.addEventListener("click", event => {
    const token = event.target.closest("[data-place]");
    if (token) choosePlace(token.dataset.place);
  });
  return { box, step, done, stop };
}

function playerOf(model, last, tokens) {
  const box = make("div", "player"), button = make("button", ""), slider = make("input", ""), output = make("output", "");
  button.type = "button";
  button.ariaLabel = words.play;
  button.append(icon());
  Object.assign(slider, { type: "range", min: 0, max: last, value: last, ariaLabel: fill(words.slider, { model }) });
  box.append(button, slider, output);
  makePlayer(button, slider, output, words, tokens).show(last);
  return box;
}

function icon() {
  const name = "http://www.w3.org/2000/svg", svg = document.createElementNS(name, "svg");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, line] of [["still", "M1 0l9 5l-9 5z"], ["moving", "M1 0h3v10h-3zM6 0h3v10h-3z"]]) {
    const path = document.createElementNS(name, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}
