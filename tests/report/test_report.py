"""The page of a run, on a run folder that is made up here."""

import html
import json
import math
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from browser import browser
from made_up import ATTACK, write_json
from made_up_run import METHODS, NAMES, fake_run, fake_scores, write_json_lines

from topeng.errors import RunError
from topeng.report import plots, wording
from topeng.report.page import write_report

def report(run: Path, title: str = "Topeng", answers: int = 6, language: str = "en") -> str:
    write_report(run, run / "report.html", title, answers, language)
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
