"""The page of a run, on a run folder that is made up here."""

import html
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import browser
from made_up import ANSWERS, ATTACK, write_json, write_plane

from topeng.errors import RunError
from topeng.report import plots, wording
from topeng.report.map import write_map
from topeng.report.page import write_report

METHODS = ["lora", "lora+", "pissa"]


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def fake_run(folder: Path, points: int = 3000) -> Path:
    """A finished run with three methods, eight clusters, and rows that would run as a script."""
    rng = np.random.default_rng(0)
    write_corpus(folder / "corpus", points, rng)
    write_map(folder / "corpus", folder / "corpus" / "map.html", "Topeng: map of the corpus")
    write_json(folder / "scores.json", fake_scores())
    for method, end, rate in zip(METHODS, (3.86, 3.74, 3.71), (60, 40, 30), strict=True):
        write_adapter(folder / "adapters" / method, method, end, rate, rng)
    for model in ["base", *METHODS]:
        write_json_lines(folder / "evaluate" / model / "answers.jsonl", fake_answers(model))
    stages = {"corpus": 12.3, "base": 61.9, **{f"train/{m}": 212.4 for m in METHODS}, "evaluate/base": 31.0}
    stages |= {f"evaluate/{m}": 33.1 for m in METHODS} | {"compare": 0.4}
    write_json(
        folder / "manifest.json",
        {
            "versions": {"python": "3.12.4", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.1"},
            "seed": 42,
            "inputs": {"corpus.csv": {"sha256": "ab12" * 16, "state": []}},
            "stages": {
                n: {"status": "done", "seconds": s, "peak_memory_bytes": 4.1e8 * (1 + s / 50)}
                for n, s in stages.items()
            },
        },
    )
    recipe = "seed: 42\ncorpus:\n  files: []\n  subsets:\n  - indo_puisi\n  - wikihow\nadapter:\n  rank: 16\n"
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder


def write_corpus(folder: Path, points: int, rng: np.random.Generator) -> None:
    steps = [("ingest", 40_000, {}), ("subsets", 19_800, {"subset not asked for": 20_200})]
    steps += [("sample", 3_000, {"not drawn": 16_800}), ("split", 2_478, {"held out": 394, "group of a test row": 128})]
    steps += [("select", 1_003, {"over the cluster's quota": 1_475}), ("tokens", 1_000, {"no room for an answer": 3})]
    funnel = [{"stage": s, "rows": r, "dropped": d} for s, r, d in steps]
    write_json(
        folder / "funnel.json", {"source_rows": 40_000, "kept_rows": 1_000, "kept_share": 0.025, "steps": funnel}
    )
    write_plane(folder, points, rng)
    row = {"row_id": 7, "template_name": "dolly_0", "input": "<script>alert(1)</script>", "output": "ya"}
    bins = [{"above": above, "rows": rows} for above, rows in ((None, 371), (0.0, 11), (0.5, 2))]
    write_json(
        folder / "overlap.json",
        {
            **{"ngram": 8, "test_rows": 394, "too_short": 10, "mean_share": 0.0042, "rows_by_share": bins},
            "most_alike": [{"share": 0.61, "test": row, "train": row}],
        },
    )


def write_adapter(folder: Path, method: str, end: float, rate: float, rng: np.random.Generator) -> None:
    def loss(step: int) -> float:
        return end + (6.1 - end) * math.exp(-step / rate)

    log = [{"step": s, "eval_loss": loss(s) + rng.normal(0, 0.02)} for s in range(0, 301, 25)]
    log += [
        {"step": s, "loss": loss(s) * math.exp(rng.normal(0, 0.14)), "learning_rate": 1e-3} for s in range(5, 301, 5)
    ]
    write_json_lines(folder / "log.jsonl", sorted(log, key=lambda line: line["step"]))
    summary = {"method": method, "rank": 16, "trainable_parameters": 41_943_040, "share": 0.0052, "steps": 300}
    write_json(folder / "summary.json", summary)


def fake_scores() -> dict[str, Any]:
    def measure(nats: float, error: float, rows: int) -> dict[str, float]:
        return {"nats_per_token": nats, "standard_error": error, "rows": rows}

    figures = {"base": (6.1, 2.0, 5.1, 0.031), "lora": (3.871, 2.151, 21.4, 0.187)}
    figures |= {"lora+": (3.742, 2.362, 22.8, 0.201), "pissa": (3.709, 2.208, 22.5, 0.198)}
    models = {
        name: {
            "target": measure(target, 0.05, 394),
            "source": measure(source, 0.04, 200),
            "answers": {"chrf": chrf, "rouge_l": rouge, "rows": 100},
        }
        for name, (target, source, chrf, rouge) in figures.items()
    }
    differences = {
        name: {"target": measure(figures[name][0] - 6.1, 0.041, 394), "source": measure(figures[name][1] - 2, 0.03, 9)}
        for name in METHODS
    }
    return {"models": models, "differences": differences}


def fake_answers(model: str) -> list[dict[str, Any]]:
    base = "the of and the the, in to a a a a <|endoftext|>"
    return [
        {"row_id": 17 + 31 * i, "input": asked, "reference": reference, "answer": base if model == "base" else answer}
        for i, (asked, reference, answer) in enumerate(ANSWERS)
    ]


def report(run: Path, title: str = "Topeng", answers: int = 6) -> str:
    write_report(run, run / "report.html", title, answers)
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path)


def test_text_of_corpus_and_model_is_escaped(run):
    page = report(run, title=f"A title {ATTACK}")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 7  # title twice, words, prompt, three answers


def test_page_loads_nothing(run):
    page = report(run)
    links = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page)
    assert all(link.startswith(("#", "data:")) or link == "corpus/map.html" for link in links)
    assert not re.search(r"@import|url\(|https?:", page)
    assert len(page) < 2_000_000


def test_numbers_appear(run):
    page = html.unescape(report(run)).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    for text in (
        "3.709",
        "-2.391",
        "+0.208",
        "22.5",
        "0.198",
        "0.52 %",
        "16,800 not drawn",
        "over 50 %",
        "371",
        "3 min 32 s",
        "413 MB",
    ):
        assert text in page, text
    assert "Of 40,000 rows 1,000 were kept (2.5 %). Of the adapters, PiSSA has the lowest" in page
    assert "3.71 nats per token, 2.39 ± 0.08 under the base. It costs 0.21 ± 0.06 nats" in page


def test_models_are_sorted_by_held_out_loss(run):
    body = report(run).split('id="comparison"')[1].split("</section>")[0]
    assert re.findall(r"</svg>([^<]+)</th>", body) == ["PiSSA", "LoRA+", "LoRA", "base"]


def test_a_cluster_is_described(run):
    body = (
        html.unescape(report(run)).split('id="clusters"')[1].split("</section>")[0].replace("\N{NO-BREAK SPACE}", " ")
    )
    for text in ("hujan, laut, rindu", "indo_puisi_template_0", "Siapa nama kamu? → Saya Topeng", "50 %", "20 %"):
        assert text in body, text
    assert 'href="corpus/map.html"' in body
    (run / "corpus" / "map.html").unlink()
    assert "corpus/map.html" not in report(run)


def test_what_is_missing_is_a_dash(run):
    scores = fake_scores()
    scores["models"]["lora"] |= {"answers": None, "source": None}
    scores["models"]["pissa"]["target"]["nats_per_token"] = math.nan
    del scores["differences"]["lora+"]
    write_json(run / "scores.json", scores)
    write_json_lines(run / "adapters" / "lora" / "log.jsonl", [{"step": 0, "eval_loss": math.nan}])
    write_json_lines(run / "evaluate" / "base" / "answers.jsonl", [{"row_id": 17, "answer": None}])
    shutil.rmtree(run / "evaluate" / "pissa")
    page = report(run)
    assert "LoRA+ has the lowest held-out loss: 3.74 nats per token." in page
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page), re.IGNORECASE)
    assert "<dd>—</dd>" in page


def test_a_run_without_answers_losses_and_points(run):
    shutil.rmtree(run / "evaluate")
    for method in METHODS:
        write_json_lines(run / "adapters" / method / "log.jsonl", [])
    pq.write_table(pq.read_table(run / "corpus" / "umap.parquet").slice(0, 0), run / "corpus" / "umap.parquet")
    page = report(run)
    assert "No answers were generated." in page and "No losses were logged." in page and "<image" not in page


def test_an_answer_that_utf8_cannot_hold(run):
    write_json_lines(run / "evaluate" / "lora" / "answers.jsonl", [])
    path = run / "evaluate" / "lora" / "answers.jsonl"
    path.write_text(json.dumps({"row_id": 17, "input": "a", "reference": "b", "answer": "half \ud83d a pair"}) + "\n")
    assert "half ? a pair" in report(run)


def test_an_unfinished_run_says_what_is_missing(run):
    (run / "scores.json").unlink()
    with pytest.raises(RunError, match=r"scores\.json is missing.*topeng run"):
        report(run)


def test_a_map_of_many_rows_stays_small(tmp_path):
    assert len(report(fake_run(tmp_path, points=20_000))) < 2_000_000


@pytest.mark.parametrize(
    ("share", "text"),
    [(10_000 / 12_810_390, "0.078 %"), (0.025, "2.5 %"), (0.164, "16 %"), (1, "100 %"), (0, "0.0 %"), (None, "—")],
)
def test_shares_keep_two_significant_digits(share, text):
    assert wording.percent(share).replace("\xa0", " ") == text


def test_training_spikes_do_not_set_the_scale():
    log = [{"step": s, "loss": 900.0 if s == 50 else 4.0} for s in range(100)] + [{"step": 0, "eval_loss": 5.0}]
    plot = plots.loss_plot({"lora": log})
    assert float(plot.y_ticks[-1].text) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_scrolls_the_page_one_way_only(run, width):
    report(run, title="Kata" * 40)
    with browser(run / "profile") as page:
        page.open((run / "report.html").as_uri(), width)
        widths = "document.documentElement.scrollWidth + ' ' + document.documentElement.clientWidth"
        assert page.run(widths) == f"{width} {width}"
        assert page.complaints() == []
