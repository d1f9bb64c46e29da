"""Describes a finished corpus: a manifest for programs, and a card for people in the Hub's format."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from topeng.corpus.settings import CorpusOptions
from topeng.options import results
from topeng.system.files import digest, write_atomically

MANIFEST = "corpus.json"
TABLES = ("train", "validation", "test", "decisions")
MATCHES_SHOWN = 20
NONE_LEFT = {"rows": 0, "distinct": 0, "upsampling": 0.0}
NOT_STATED = "not stated: `corpus.licences` of the recipe says nothing"


def write_card(options: CorpusOptions, seed: int, run: Path, out: Path) -> None:
    """Writes `corpus.json` and `README.md` into `out`, from files that earlier stages wrote in `run`."""
    source = json.loads((run / "corpus" / "ingested" / "source.json").read_text(encoding="utf-8"))
    drawn = json.loads((run / "corpus" / "drawn" / "draw.json").read_text(encoding="utf-8"))
    subsets = options.subsets or list(source["subsets"])
    manifest = {
        "seed": seed,
        "options": results(options),
        "source": source,
        "subsets": {
            name: drawn["subsets"].get(name, NONE_LEFT) | {"licence": options.licences.get(name, NOT_STATED)}
            for name in subsets
        },
        "strata": {name: {"wanted": wanted, "got": drawn["got"][name]} for name, wanted in drawn["wanted"].items()},
        "masked": drawn.get("masked", {}),
        "contaminated": drawn.get("contaminated", []),
        "files": {f"{name}.parquet": _file(out / f"{name}.parquet") for name in TABLES},
    }
    write_atomically(out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    overlap = json.loads((out / "overlap.json").read_text(encoding="utf-8"))
    funnel = json.loads((out / "funnel.json").read_text(encoding="utf-8"))
    write_atomically(out / "README.md", _card(manifest, overlap, funnel))


def _file(path: Path) -> dict[str, Any]:
    return {"rows": pq.read_metadata(path).num_rows, "sha256": digest(path)}


def _front_matter(options: Mapping[str, Any]) -> str:
    languages = options["languages"] if options["profile"] == "clean" else ["id"]
    codes = "\n".join(f"- {code}" for code in languages)
    return f"---\nlanguage:\n{codes}\ntask_categories:\n- text-generation\ntags:\n- topeng\n---"


def _card(manifest: Mapping[str, Any], overlap: Mapping[str, Any], funnel: Mapping[str, Any]) -> str:
    options, files = manifest["options"], manifest["files"]
    return f"""{_front_matter(options)}

# A corpus drawn by Topeng

{files["train.parquet"]["rows"]:,} training rows, {files["validation.parquet"]["rows"]:,} validation rows and
{files["test.parquet"]["rows"]:,} test rows, from {manifest["source"]["rows"]:,} rows of the source. Profile
`{options["profile"]}`, seed {manifest["seed"]}. No source text and no content is in two splits. `corpus.json` has every
option and digest. `decisions.parquet` says why each examined row was kept or dropped. `topeng corpus verify` checks the
folder.

## Sources

{_table(["subset", "rows", "distinct", "upsampled", "licence"], _subset_rows(manifest))}

Content digest of the source: `{manifest["source"]["digest"]}`. Files:
{_list(f"`{file['name']}`, {file['rows']:,} rows" for file in manifest["source"]["files"])}

## From the source to train

{_table(["step", "rows left", "dropped"], _funnel_rows(funnel))}

## Remaining overlap of test and train

The table counts the {overlap["test_rows"]:,} test rows by the share of their {overlap["ngram"]}-grams that occur
anywhere in train, without template text. The mean is {overlap["mean_share"]:.2%}. {overlap["too_short"]:,} rows are too
short to have any.

{_table(["share above", "rows"], _overlap_rows(overlap))}

## Benchmarks

{_contaminated(manifest)}

## Personal data

{_masked(manifest)}
"""


def _subset_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    return [
        [f"`{name}`", f"{entry['rows']:,}", f"{entry['distinct']:,}", f"{entry['upsampling']:g} ×", entry["licence"]]
        for name, entry in manifest["subsets"].items()
    ]


def _funnel_rows(funnel: Mapping[str, Any]) -> list[list[str]]:
    return [
        [step["stage"], f"{step['rows']:,}", "; ".join(f"{n:,} {reason}" for reason, n in step["dropped"].items())]
        for step in funnel["steps"]
    ]


def _overlap_rows(overlap: Mapping[str, Any]) -> list[list[str]]:
    names = ["none" if entry["above"] is None else f"{entry['above']:.0%}" for entry in overlap["rows_by_share"]]
    return [[name, f"{entry['rows']:,}"] for name, entry in zip(names, overlap["rows_by_share"], strict=True)]


def _contaminated(manifest: Mapping[str, Any]) -> str:
    files, matches = manifest["options"]["benchmarks"], manifest["contaminated"]
    if not files or manifest["options"]["profile"] != "clean":
        return "No benchmark was checked."
    rows = [[match["row"], match["file"], match["item"], f"{match['share']:.0%}", match["text"]] for match in matches]
    table = _table(["row", "benchmark", "item", "share held", "text"], rows[:MATCHES_SHOWN])
    return (
        f"{len({match['row'] for match in matches}):,} rows that contain text of {', '.join(files)} were dropped. All "
        f"matches are in `corpus.json`.\n\n{table if rows else ''}"
    )


def _masked(manifest: Mapping[str, Any]) -> str:
    if manifest["options"]["profile"] != "clean" or not manifest["options"]["mask_pii"]:
        return "Nothing was masked."
    found = ", ".join(f"{count:,} `[{kind}]`" for kind, count in sorted(manifest["masked"].items()))
    return f"Masked in the sampled and held-out rows: {found or 'nothing was found'}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in cells)


def _list(items: Any) -> str:
    return "\n".join(f"- {item}" for item in items)


def _escaped(cell: str) -> str:
    return " ".join(str(cell).replace("|", "\\|").replace("<", "&lt;").split())
