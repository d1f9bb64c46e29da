"""The page of a run, on a run folder that is made up here."""

import base64
import hashlib
import html
import json
import math
import re
import shutil
from itertools import combinations, pairwise, product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_up import ATTACK, write_json
from made_up_run import METHODS, NAMES, fake_answer, fake_run, fake_scores, write_json_lines

from topeng.adapt.settings import METHODS as ALL_METHODS
from topeng.errors import RunError
from topeng.pages import LOOK
from topeng.report import answers, plots, wording
from topeng.report.files import read_run
from topeng.report.page import style, write_report

SOURCE = Path(plots.__file__).parent


def report(run: Path, title: str = "Topeng", answers: int = 6, language: str = "en") -> str:
    write_report(run, run / "report.html", title, answers, language)
    return (run / "report.html").read_text(encoding="utf-8")


def plain(page: str) -> str:
    return html.unescape(page).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("finished"), points=300)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def written(finished: Path) -> str:
    """The page of the run as it is."""
    return report(finished)


def test_text_of_corpus_and_model_is_escaped(run):
    page = report(run, title=f"A title {ATTACK}")
    assert page.count("<script") == page.count("</script>") == 2  # the tokens as JSON, and the page's own
    assert ATTACK not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 7  # title twice, words, prompt, three answers


def test_only_its_own_script_and_style_may_run(run):
    page = report(run)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for name, tag in (("script-src", "<script>"), ("style-src", "<style>")):
        source = page.split(tag)[1].split(f"</{tag[1:]}")[0]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy


def test_page_loads_nothing(written):
    page = written
    links = re.findall(r"""\b(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page)
    assert all(link.startswith(("#", "data:")) or link == "corpus/map.html" for link in links)
    assert not re.search(r"@import|url\(|https?:", page)
    assert len(page) < 2_000_000


def test_numbers_appear(written):
    page = plain(written)
    for text in (
        *("3.709", "3.611 … 3.807", "+2.391", "2.293 … 2.489", "+0.208", "0.136 … 0.280", "22.5", "0.198"),
        *("0.52 %", "16,800 not drawn", "over 50 %", "371", "3 min 32 s", "413 MB", "83 %", "< 0.001"),
        *("ef56" * 16, "cd34" * 16, "ab12" * 16, "no difference was shown between LoRA+ and PiSSA"),
    ):
        assert text in page, text
    assert "1,000 of 40,000 rows were kept (2.5 %). Of the methods, PiSSA has the lowest" in page
    assert (
        "3.71 nats per token (perplexity 41), 2.39 below the base (2.29 … 2.49). It costs 0.21 nats per token" in page
    )


def test_in_indonesian(run):
    page = plain(report(run, language="id"))
    assert '<html lang="id">' in page
    for text in ("Jawaban benar", "3,709", "3,611 … 3,807", "Dari 40.000 baris, 1.000 dipakai (2,5%)", "3 mnt 32 dtk"):
        assert text in page, text
    assert "Pada bahasa tujuan, LoRA+ lebih baik daripada LoRA (selisih 0,129); PiSSA lebih baik" in page
    assert "Pada bahasa tujuan, tidak terbukti ada perbedaan antara LoRA+ dan PiSSA." in page
    for english in (
        "no difference",
        ">Model</th><th>Rows",
        "Right answers",
        "Losses",
        "Question",
        "Prompt<",
        "optimiser step",
        "nats per token",
    ):
        assert english not in page, english


def test_every_text_has_both_languages_and_the_same_names():
    names = [[set(re.findall(r"{(\w+)}", text)) for text in texts] for texts in wording.TEXTS.values()]
    assert all(len(texts) == 2 and texts[0] == texts[1] for texts in names)


def test_every_text_is_used(run):
    sources = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".jinja")]
    code = "".join(path.read_text() for path in sources)
    assert [key for key in wording.TEXTS if not re.search(rf"""["'](on_)?{key.removeprefix("on_")}["']""", code)] == []


def test_gain_against_forgetting_has_both_intervals():
    plot = plots.tradeoff_plot(fake_scores(), METHODS, wording.Wording())
    pissa = next(one for one in plot.estimates if one.method == "pissa")
    assert pissa.across[0] < pissa.x < pissa.across[1] and pissa.along[1] < pissa.y < pissa.along[0]  # y is downwards
    assert plot.zero[0] < pissa.across[0] and plot.zero[1] > pissa.along[0]  # it gains, and forgets
    assert "PiSSA gains +2.391 (2.293 … 2.489) and forgets +0.208 (0.136 … 0.280)" in plot.text
    assert {tick.at for tick in plot.x_ticks if tick.text == "0.0"} == {plot.zero[0]}


def test_several_seeds_are_one_line_with_a_band():
    logs = [[{"step": 0, "eval_loss": 4.0}, {"step": 9, "eval_loss": end}] for end in (2.0, 3.0)]
    lora, pissa = plots.loss_plot({"lora": logs, "pissa": logs[:1]}, wording.Wording()).curves
    ends = [float(point.split(",")[1].rstrip("z")) for point in lora.band[1:].split("L")]
    assert pissa.band == "" and ends[0] == ends[3]  # both seeds start alike
    assert lora.markers[-1][1] == pytest.approx((ends[1] + ends[2]) / 2, abs=0.02)


def test_failures_are_counted_with_an_example(run):
    found = {(one["model"], one["kind"]): one for one in answers.worst(read_run(run))}
    assert (found["base", "at_limit"]["count"], found["base", "at_limit"]["rows"]) == (6, 8)
    assert (found["lora", "empty"]["count"], found["lora", "empty"]["rows"]) == (2, 16)  # of both seeds
    assert found["pissa", "repetitive"]["input"].startswith("Bagaimana cara menyimpan")
    assert ("pissa", "at_limit") not in found
    assert found["pissa", "wrong"]["answer"] == "Kota" and ("lora", "wrong") not in found


def test_headings_go_down_by_one_and_tables_name_their_headers(written):
    page = written
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope=" in header for header in re.findall(r"<th\b[^>]*>", page))
    assert all("aria-label=" in figure for figure in re.findall(r'<svg[^>]*role="img"[^>]*>', page))


def colours(scheme: str) -> dict[str, tuple[int, ...]]:
    """The variables of the style in a scheme, as RGB."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", LOOK.read_text(), re.DOTALL)[:2]
    pairs = re.findall(r"--(\w+): (#[0-9a-f]{6});", light + (dark if scheme == "dark" else ""))
    return {name: tuple(bytes.fromhex(value[1:])) for name, value in pairs}


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """WCAG 2.2."""

    def luminance(colour: tuple[int, ...]) -> float:
        shares = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_stand_out(scheme):
    colour = colours(scheme)
    for text in ("ink", "quiet", "accent", "good", "bad"):
        assert contrast(colour[text], colour["page"]) >= 4.5 and contrast(colour[text], colour["panel"]) >= 4.5, text
    assert contrast(colour["ink"], colour["new"]) >= 4.5
    for mark in ("base", "m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "edge"):
        assert contrast(colour[mark], colour["page"]) >= 3, mark


def test_no_two_models_look_alike():
    styles = [style(name, []) for name in ("base", *ALL_METHODS)]
    assert len({one["style"] for one in styles}) == len({one["marker"] for one in styles}) == len(styles)


def test_methods_that_were_not_told_apart_stand_in_the_largest_groups():
    differ = {("a", "c"), ("a", "d"), ("b", "d"), ("e", "a"), ("e", "b"), ("e", "c")}
    pairs = [
        {"a": a, "b": b, "language": "target", "seeded": True, "difference": {"mean": -1.0}, "real": (a, b) in differ}
        for a, b in [*combinations("abcd", 2), *product("e", "abcd")]
    ]
    *_, english = wording.pair_sentences(wording.Wording(), pairs)
    assert english == "On the target language, no difference was shown between a and b; b and c; c and d; d and e."
    for pair in pairs:
        pair["real"] = "e" in pair.values()
    *_, indonesian = wording.pair_sentences(wording.Wording("id"), pairs)
    assert indonesian.endswith("tidak terbukti ada perbedaan antara a, b, c, dan d satu sama lain.")


def test_models_are_sorted_by_held_out_loss(written):
    body = written.split('id="comparison"')[1].split("</table>")[0]
    assert re.findall(r"</svg>([^<]+)<", body) == ["PiSSA", "LoRA+", "LoRA", "base"]


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
    scores["models"]["lora"] |= {"answers": {"target": None, "source": None}, "source": None}
    scores["models"]["pissa"]["target"]["nats_per_token"]["mean"] = math.nan
    del scores["gain"]["lora+"], scores["forgetting"]["lora+"]
    write_json(run / "scores.json", scores)
    write_json_lines(run / "adapters" / "lora+" / "log.jsonl", [{"step": 0, "eval_loss": math.nan}])
    write_json_lines(run / "evaluate" / "base" / "answers.jsonl", [])
    shutil.rmtree(run / "evaluate" / "pissa")
    page = report(run)
    assert "LoRA+ has the lowest held-out loss: 3.74 nats per token (perplexity 42)." in page
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page), re.IGNORECASE)


def test_a_run_without_answers_losses_and_points(run):
    shutil.rmtree(run / "evaluate")
    for name in [name for method in METHODS for name in NAMES[method]]:
        write_json_lines(run / "adapters" / name / "log.jsonl", [])
    pq.write_table(pq.read_table(run / "corpus" / "umap.parquet").slice(0, 0), run / "corpus" / "umap.parquet")
    page = report(run)
    assert "No answers were generated." in page and "No losses were logged." in page and "<image" not in page


def test_an_answer_that_utf8_cannot_hold(run):
    answer = fake_answer("target", 17, "a", "b", "half \ud83d a pair", False)
    path = run / "evaluate" / "lora+" / "answers.jsonl"
    path.write_text(json.dumps(answer) + "\n")
    assert "half ? a pair" in report(run)


def test_an_unfinished_run_says_what_is_missing(run):
    (run / "scores.json").unlink()
    with pytest.raises(RunError, match=r"scores\.json is missing.*topeng run"):
        report(run)


def test_a_map_of_many_rows_stays_small(tmp_path):
    assert len(report(fake_run(tmp_path, points=20_000))) < 2_000_000


@pytest.mark.parametrize(
    ("share", "text"),
    [(10_000 / 12_810_390, "0.078 %"), (0.025, "2.5 %"), (0.164, "16 %"), (1, "100 %"), (0, "0 %"), (None, "—")],
)
def test_shares_keep_two_significant_digits(share, text):
    assert wording.Wording().percent(share).replace("\xa0", " ") == text


def test_training_spikes_do_not_set_the_scale():
    log = [{"step": s, "loss": 900.0 if s == 50 else 4.0} for s in range(100)] + [{"step": 0, "eval_loss": 5.0}]
    plot = plots.loss_plot({"lora": [log]}, wording.Wording())
    assert float(plot.y_ticks[-1].text) <= 6


def test_all_losses_lie_between_the_outermost_ticks():
    log = [{"step": 7 * s, "loss": 3.97 + 5 / (s + 1), "eval_loss": 1.03 if s % 10 == 9 else None} for s in range(33)]
    plot = plots.loss_plot({"lora": [log]}, wording.Wording())
    (curve,) = plot.curves
    points = [
        tuple(map(float, point.split(",")))
        for path in (curve.held_out, curve.training)
        for point in path[1:].split("L")
    ]
    for axis, ticks in enumerate((plot.x_ticks, plot.y_ticks)):
        ends = sorted(tick.at for tick in ticks)
        assert ends[0] == 0 and ends[-1] == 100
        assert all(0 <= point[axis] <= 100 for point in points)


def opened(page: str) -> str:
    """What stands before the sections."""
    return plain(page).split("<nav")[0]


def test_it_opens_with_what_was_adapted_and_one_question(run):
    page = opened(report(run))
    assert "LLaDA-8B-Instruct was adapted to Indonesian and Malay" not in page  # the default, which is one language
    assert re.search(
        r"LLaDA-8B-Instruct was adapted to Indonesian on 1,000 rows, with LoRA, LoRA\+ and PiSSA\. \d+ \w+ 20\d\d\.",
        page,
    )
    question = page.split("<h2")[1].split("<figcaption>")[0]
    assert "Apa ibu kota Jawa Barat?" in question and "Bandung" in question
    assert re.findall(r"(right|wrong)</span>", question) == [
        "wrong",
        "right",
        "right",
        "wrong",
    ]  # of the base, then each
    assert "Of 1 rows with one right answer, 1 are answered wrongly by the base and rightly by LoRA." in page
    assert "9 % → 58 %" in page and page.index("9 % → 58 %") < plain(report(run)).index("3.71 nats per token")


def test_a_small_model_on_made_up_text_is_called_so(run):
    recipe = (run / "recipe.yaml").read_text().replace("GSAI-ML/LLaDA-8B-Instruct", "kecil")
    (run / "recipe.yaml").write_text(re.sub(r"files: .*", "files: []", recipe))
    page = opened(report(run))
    assert "A small model was adapted to Indonesian on 1,000 rows of made-up text" in page
    assert "In English, answers got worse: 63 % of PiSSA’s are right, compared with 80 % of the base’s." in page
    assert "Sebuah model kecil diadaptasi ke bahasa Indonesia" in opened(report(run, language="id"))


def test_the_opening_never_hides_that_answers_got_worse(run):
    scores = fake_scores()
    for model, chrf, empty in (("base", 4.0, 0.0), ("lora", 0.6, 0.9), ("lora+", 5.0, 0.0), ("pissa", 0.5, 0.0)):
        scores["models"][model]["answers"]["target"] |= {"chrf": chrf, "empty": empty}
    worse = {"rows": 100, "mean": -0.05, "low": -0.08, "high": -0.02}
    scores["gain"]["lora"]["exact_match"] = worse
    write_json(run / "scores.json", scores)
    page = opened(report(run))
    assert "less similar to their references than the base’s (chrF++ 4.0): PiSSA (0.5) and LoRA (0.6)." in page
    assert "More answers in Indonesian are empty than with the base (0 %): LoRA (90 %)." in page
    assert "In Indonesian, the other methods also give fewer right answers than the base: LoRA (64 %)." in page


def test_few_rows_and_none_are_said(run):
    scores = fake_scores()
    for model in scores["models"].values():
        model["answers"]["target"]["judged"] = 2
    write_json(run / "scores.json", scores)
    assert "Only 2 rows in Indonesian could be judged, which is too few for a conclusion." in opened(report(run))
    for model in scores["models"].values():
        for found in model["answers"].values():
            found |= {"judged": 0, "exact_match": None, "exact_match_low": None, "exact_match_high": None, "f1": None}
    for changes in (scores["gain"], scores["forgetting"]):
        for change in changes.values():
            change |= {"exact_match": None, "f1": None}
    write_json(run / "scores.json", scores | {"right_pairs": []})
    page = opened(report(run))
    assert "Right answers were not counted" in page and "are right" not in page and "nats per token gained" in page


def test_one_method_is_not_the_lowest_of_the_methods(run):
    scores = fake_scores()
    for name in ("lora+", "pissa"):
        for part in ("models", "gain", "forgetting"):
            del scores[part][name]
    write_json(run / "scores.json", scores | {"pairs": [], "right_pairs": []})
    page = plain(report(run))
    assert "LoRA has a held-out loss of 3.87 nats per token" in page and "Of the methods" not in page


def test_answers_are_folded_and_steps_have_names_for_people(written):
    page = plain(written)
    rows = page.split('id="answers"')[1].split("</section>")[0]
    assert rows.count('<details class="row">') == 7 and "<details open" not in page
    funnel = page.split('id="rows"')[1].split("</section>")[0]
    assert "chosen from the clusters" in funnel and ">select<" not in funnel
    assert "17 prompts and 0 answers of the rows trained on were cut" in funnel


def test_scores_of_another_format_say_what_to_do(run):
    write_json(run / "scores.json", fake_scores() | {"format": 2})
    with pytest.raises(RunError, match=r"format 2, but the report reads 3.*topeng compare"):
        report(run)


def test_answers_without_pieces_have_no_slider(run):
    for path in run.glob("evaluate/*/answers.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        write_json_lines(path, [{key: record[key] for key in record if key != "pieces"} for record in records])
    page = report(run)
    assert "<script" not in page and "<input" not in page and "Saya adalah asisten" in page


LOOKS = list(product((1280, 390), ("light", "dark"), ("en", "id")))
SELDOM = [look for look in LOOKS if look not in [(1280, "light", "en"), (390, "dark", "id")]]


@pytest.mark.parametrize(
    ("width", "scheme", "language"),
    [pytest.param(*look, marks=[pytest.mark.slow] if look in SELDOM else []) for look in LOOKS],
)
def test_a_browser_shows_the_page(run, width, scheme, language, page):
    report(run, title="Kata" * 40, language=language)
    url = (run / "report.html").as_uri()
    page.open(url, width, prefers_color_scheme=scheme)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    widths = "document.documentElement.scrollWidth + ' ' + document.documentElement.clientWidth"
    page.run("document.querySelectorAll('.big').forEach(one => { one.textContent = '100\u00a0% → 100\u00a0%'; })")
    assert page.run(widths) == f"{width} {width}"
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.run(colour) == f"rgb{colours(scheme)['page']}"
    assert page.lapses() == []
    assert page.complaints() == [] and set(page.requests()) == {url}


def test_keys_step_through_an_answer(run, page):
    report(run)
    page.open((run / "report.html").as_uri())
    answer = page.run("document.querySelector('.row .m2').querySelector('[data-film]').textContent")
    masked = "document.querySelector('.row .m2').querySelectorAll('.masked').length"
    page.run("document.querySelector('.row').open = true, document.querySelector('.row input').focus()")
    last = int(page.run("document.activeElement.max"))
    page.key("Home")
    pieces = page.run("document.querySelector('.row .m2').querySelectorAll('.token').length")
    assert page.run(masked) == pieces > 2
    page.key("ArrowRight")
    assert page.run(masked) == pieces - 2  # two fell in the first step
    assert page.run("document.querySelector('.row .m2').querySelectorAll('.new').length") == 2
    assert page.run("document.activeElement.getAttribute('aria-valuetext')") == f"step 1 of {last}"
    page.key("End")
    assert page.run(masked) == 0
    assert page.run("document.querySelector('.row .m2').querySelector('[data-film]').textContent") == answer
    assert page.complaints() == []


@pytest.mark.slow
def test_texts_of_tokens_never_become_elements(run, page):
    report(run)
    page.open((run / "report.html").as_uri())
    before = page.run("document.querySelectorAll('script').length")
    page.run("document.querySelectorAll('.row input').forEach(one => one.dispatchEvent(new Event('input')))")
    assert page.run(f"document.querySelector('main').textContent.includes({json.dumps(ATTACK)})")
    assert page.run("document.querySelectorAll('script').length") == before == 2
    page.run("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))")
    assert page.run("document.title") == "Topeng"


def test_home_folders_are_not_shown(run):
    scores = fake_scores()
    scores["conditions"]["bertscore_model"] = "/Users/somebody/bert"
    write_json(run / "scores.json", scores)
    page = report(run)
    assert "someone" not in page and "somebody" not in page and "~/rows.parquet" in page and "~/corpus.csv" in page
