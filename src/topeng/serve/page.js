// The conversation: one question, an answer of each chosen model side by side, and what was said before to each of them.
const at = id => document.getElementById(id);
const [turns, error, question, send, pause, stop] = ["turns", "error", "question", "send", "pause", "stop"].map(at);
let said = {}, running = null, held = null; // messages of each model; who can be aborted; who waits for the pause to end

function asked(model, text) {
  const number = id => at(id).value === "" ? undefined : Number(at(id).value);
  const messages = [...(said[model] ?? []), { role: "user", content: text }];
  if (at("system").value) messages.unshift({ role: "system", content: at("system").value });
  const preset = at("preset").value, own = preset ? { preset } : { policy: at("policy").value, stop_at_end: true };
  const topeng = { ...own, block_length: number("block"), cfg_scale: number("cfg"), fixed_words: at("fixed").value };
  if (number("steps")) topeng.steps = number("steps");
  return { model, messages, max_tokens: number("length"), temperature: number("temperature"), seed: number("seed"), topeng };
}

async function answer(model, text, box, signal) {
  let whole = null;
  for await (const event of denoise(asked(model, text), at("key")?.value, signal)) {
    while (held) await held.over;
    if (event.type === "step") box.step(event);
    if (event.type === "done") box.done(whole = event);
  }
  box.stop();
  if (whole) said[model] = [...(said[model] ?? []), { role: "user", content: text }, { role: "assistant", content: whole.text }];
}

async function ask(text) {
  const models = [...document.querySelectorAll("[name=model]:checked")].map(box => box.value);
  if (!models.length) return complain(words.one_model);
  complain("");
  const turn = make("div", "turn"), answers = make("div", "answers");
  const boxes = models.map(model => makeAnswer(model, choosePlace));
  answers.append(...boxes.map(one => one.box));
  turn.append(make("p", "said", text), answers);
  turns.append(turn);
  at("empty").hidden = true;
  question.value = "";
  turn.scrollIntoView({ block: "nearest" });
  running = new AbortController();
  busy(true);
  await Promise.all(models.map((model, place) => answer(model, text, boxes[place], running.signal).catch(reason => {
    boxes[place].stop(); // told at once, while the others go on
    complain(reason.message);
  })));
  running = null;
  busy(false);
}

function busy(now) {
  send.disabled = now;
  pause.disabled = stop.disabled = !now;
}

function complain(text) {
  error.textContent = text;
  error.hidden = !text;
}

function release() {
  held?.resolve();
  held = null;
  pause.textContent = words.pause;
}

// A click on a place begins its fixed word.
function choosePlace(place) {
  const field = at("fixed"), before = field.value.trim().replace(/,$/, "");
  field.closest("details").open = true;
  field.value = `${before}${before ? ", " : ""}${place}:`;
  field.focus();
}

function layPlaces() {
  const count = Math.min(Number(at("length").value) || 0, 512);
  at("places").replaceChildren(...Array.from({ length: count }, (_, place) => {
    const button = make("button", "", String(place));
    button.type = "button";
    button.ariaLabel = fill(words.place, { place });
    button.addEventListener("click", () => choosePlace(place));
    return button;
  }));
}

at("ask").addEventListener("submit", event => {
  event.preventDefault();
  if (!running && question.value.trim() && at("choices").reportValidity()) ask(question.value.trim());
});
question.addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); at("ask").requestSubmit(); }
});
stop.addEventListener("click", () => { running?.abort(); release(); });
pause.addEventListener("click", () => {
  if (held) return release();
  held = Promise.withResolvers();
  held.over = held.promise;
  pause.textContent = words.resume;
});
at("reset").addEventListener("click", () => {
  running?.abort();
  release();
  said = {};
  turns.replaceChildren();
  complain("");
  at("empty").hidden = false;
  question.focus();
});
at("choices").addEventListener("submit", event => event.preventDefault());
at("policy").addEventListener("change", () => { at("preset").value = ""; });
for (const id of ["temperature", "cfg"])
  at(id).addEventListener("input", event => { event.target.previousElementSibling.textContent = Number(event.target.value).toFixed(1); });
at("length").addEventListener("input", layPlaces);
if (innerWidth < 900) at("settings").open = false;
layPlaces();
