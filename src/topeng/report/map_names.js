// Names of clusters on the plane: each at its cluster or a few lines off, with as many words as cover no other name; the
// largest cluster first. They lie over the canvas, and their texts are written as text alone.
const LINE = 18, labels = byId("labels");
const bySize = data.clusters.map((_, place) => place).sort((one, another) => data.clusters[another].rows - data.clusters[one].rows);

// Of a cluster, with all words of its name, then fewer, at last its number alone; each with its width.
function nameForms({ cluster, words }) {
  context.font = getComputedStyle(labels).font;
  const most = Math.min(data.name_words, words.length);
  return Array.from({ length: most + 1 }, (_, fewer) => {
    const text = `${cluster} ${words.slice(0, most - fewer).join(", ")}`.trim();
    return { text, wide: context.measureText(text).width + 6 };
  });
}

function freePlace(forms, x, y, taken) {
  const lines = [...(count < 100 ? [] : [0]), -1, 1, -2, 2, -3, 3];  // a name would hide a few dots
  for (const { text, wide } of forms) {
    if (wide > width / 2) continue;
    for (const [line, aside] of lines.flatMap(line => [[line, 0], [line, -1], [line, 1]])) {
      const left = clamp(x + (aside - 1) * wide / 2, 0, width - wide), top = clamp(y + (line - 0.5) * LINE, 0, height - LINE);
      const box = { text, left, top, right: left + wide, bottom: top + LINE };
      const free = taken.every(one => box.right <= one.left || box.left >= one.right || box.bottom <= one.top || box.top >= one.bottom);
      if (free) return box;
    }
  }
}

function placeNames() {
  const buttons = plot.querySelector(".zoom"), { offsetLeft: left, offsetTop: top } = buttons;
  const taken = [{ left, top, right: left + buttons.offsetWidth, bottom: top + buttons.offsetHeight }];
  const shown = bySize.filter(place => colour === "cluster" && data.middles[place] && !hidden.has(colourOf(place)));
  labels.replaceChildren(...shown.flatMap(place => {
    const [x, y] = data.middles[place], at = [across(x) * width / 100, down(y) * height / 100];
    const inside = at[0] >= 0 && at[0] <= width && at[1] >= 0 && at[1] <= height;
    const box = inside && freePlace(nameForms(data.clusters[place]), ...at, taken);
    if (!box) return [];
    taken.push(box);
    const name = make("span", box.text);
    [name.style.left, name.style.top, name.style.width] = [`${box.left}px`, `${box.top}px`, `${box.right - box.left}px`];
    return [name];
  }));
}
