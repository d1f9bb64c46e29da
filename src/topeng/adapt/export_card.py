"""The card of an exported model: its sources, their licences, and how to use the model in its format.

The card of a run (`cards/METHOD.md`) is kept, except for the usage. Cards are in English, like the Hub.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from topeng import kecil
from topeng.adapt.settings import without_seed

NOT_STATED = "not stated"
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
USE, LICENCES = (re.compile(rf"^## {name}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL) for name in ("Use", "Licences"))
USES = {
    "merged": """A checkpoint in the official layout, in {precision}. The adapter was added in fp32, then rounded.

```python
import topeng

model, tokenizer = topeng.load("PATH/TO/{name}")
```

The model fills in masked tokens, so `generate` of transformers, which writes from left to right, cannot be used.""",
    "adapter native": """```python
import topeng

model, tokenizer = topeng.load("{base}", adapter="PATH/TO/{name}")
```""",
    "adapter official": """A peft adapter under the names of the official code:

```python
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("{base}", trust_remote_code=True)
model = PeftModel.from_pretrained(base, "PATH/TO/{name}")
```

Topeng loads it too: `topeng.load("{base}", adapter="PATH/TO/{name}")`.""",
    "gguf": """One file for llama.cpp, {precision}:

```sh
llama-diffusion-cli -m {file} -p "Siapa namamu?" -ub 128 --diffusion-block-length 32 --diffusion-steps 128 --top-k 1
```

`-ub` is the length of prompt and answer together, a multiple of the block length; `--top-k 1` is greedy.""",
}
LIBRARIES = {"merged": "transformers", "adapter": "peft", "gguf": "llama.cpp"}


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        base: folder of the checkpoint.
        hub: model id of the checkpoint, if it was named by one.
        adapter: folder of an adapter on it.
        run: run folder of the source.
    """

    base: Path
    hub: str | None = None
    adapter: Path | None = None
    run: Path | None = None


@dataclass(frozen=True)
class Licences:
    """Licences of the weights, of their base, and of the training texts."""

    weights: str
    base: str
    data: str | dict[str, str]


def card(source: Source, form: str, name: str, facts: Mapping[str, str]) -> str:
    """The card, with front matter and body.

    Args:
        name: name of the model.
        facts: facts about the format: `precision`, `names`, `file`.
    """
    front, body = read_card(_known(source))
    if "[More Information Needed]" in body:  # peft's empty card, which contains folder names of the machine
        front, body = {}, ""
    licences = _licences(source, front)
    front = front | _front(source, form, licences)
    if form != "adapter":
        front.pop("model-index", None)  # measured before the weights were rounded
    use = f"## Use\n\n{_use(source, form, name, facts)}\n\n"
    body = LICENCES.sub("", body) or f"# {name}\n\n{_origin(source, form)}\n\n{use}"
    body = USE.sub(lambda _: use, body) if USE.search(body) else f"{body.rstrip()}\n\n{use}"
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{head}---\n{body.rstrip()}\n\n{_licence_section(licences)}"


def read_card(file: Path) -> tuple[dict[str, Any], str]:
    """The front matter and body of a card, which are empty if there is no card."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = FRONT.match(text)
    try:
        front = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        front = {}
    return (front if isinstance(front, dict) else {}), text[found.end() :] if found else text


def licence_of(front: Mapping[str, Any]) -> str:
    """The licence in a front matter, as one word."""
    stated = front.get("license_name") if front.get("license") == "other" else front.get("license")
    return NOT_STATED if stated in (None, "", "not-stated", NOT_STATED) else str(stated)


def _known(source: Source) -> Path:
    """The existing card, of the run or of the checkpoint itself."""
    folder = source.adapter or source.base
    if source.run is None:
        return folder / "README.md"
    return source.run / "cards" / f"{without_seed(folder.resolve().name)}.md"


def _licences(source: Source, front: Mapping[str, Any]) -> Licences:
    own = front.get("base_license") or licence_of(front)  # a checkpoint without a base is its own
    base = own if source.adapter is None else licence_of(read_card(source.base / "README.md")[0])
    data = front.get("data_license") or NOT_STATED
    if source.run:
        corpus = yaml.safe_load((source.run / "recipe.yaml").read_text(encoding="utf-8"))["corpus"]
        data = {subset: corpus["licences"].get(subset, NOT_STATED) for subset in corpus["subsets"]} or data
    return Licences(licence_of(front), base, data)


def _front(source: Source, form: str, licences: Licences) -> dict[str, Any]:
    stated = licences.weights != NOT_STATED
    front: dict[str, Any] = {"license": licences.weights} if stated else {"license": "other"}
    if not stated:
        front["license_name"] = "not-stated"
    if source.hub:
        relation = "quantized" if source.adapter is None else "adapter" if form == "adapter" else "finetune"
        front |= {"base_model": source.hub, "base_model_relation": relation}
    topeng_alone = source.adapter and _is_nara(source.adapter)
    front |= {"library_name": "topeng" if topeng_alone else LIBRARIES[form], "pipeline_tag": "text-generation"}
    return front | {"base_license": licences.base, "data_license": licences.data}


def _is_nara(adapter: Path) -> bool:
    from topeng.adapt.nara import is_nara  # imported here, because it needs peft and torch, and reading a card does not

    return is_nara(adapter)


def _origin(source: Source, form: str) -> str:
    local = kecil.NAME if source.base == kecil.FOLDER else source.base.name
    base = f"[{source.hub}](https://huggingface.co/{source.hub})" if source.hub else f"`{local}`"
    what = "An adapter for" if form == "adapter" else "The weights of"
    merged = ", with an adapter added" if source.adapter and form != "adapter" else ""
    return f"{what} {base}, a masked diffusion language model{merged}; exported by Topeng."


def _use(source: Source, form: str, name: str, facts: Mapping[str, str]) -> str:
    kind = f"{form} {facts['names']}" if form == "adapter" else form
    named = source.base == kecil.FOLDER and kind != "adapter official"  # the official code reads a folder
    return USES[kind].format(base=source.hub or (kecil.NAME if named else "PATH/TO/BASE"), name=name, **facts)


def _licence_section(licences: Licences) -> str:
    data = licences.data if isinstance(licences.data, dict) else {"texts": licences.data}
    rows = [("these weights", licences.weights), ("the base", licences.base), *data.items()]
    return "\n".join(
        ["## Licences", "", "| of | licence |", "|---|---|", *(f"| {of} | {what} |" for of, what in rows), ""]
    )
