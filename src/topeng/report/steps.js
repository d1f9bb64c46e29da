// Tokens of an answer as they stood at a step of its denoising. Their texts are written as text alone.
const { words, films } = JSON.parse(document.getElementById("films").textContent);
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
  const box = row.querySelector(".player"), [button, slider, output] = box.children;
  let tokens = null; // laid when a step is first shown
  const player = makePlayer(button, slider, output, words, () =>
    tokens ??= [...row.querySelectorAll("[data-film]")].flatMap(lay));
  addEventListener("beforeprint", () => { player.stop(); if (tokens) player.show(player.last); });
  slider.value = player.last;
  box.hidden = false;
}

document.querySelectorAll(".row").forEach(row => { if (row.querySelector(".player")) start(row); });
document.querySelectorAll(".needs-script").forEach(text => { text.hidden = false; });
