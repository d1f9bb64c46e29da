"""The Indonesian benchmarks as tasks of the harness: their prompts and answers, from files and from the Hub, and the
scores of tiny models with chance beside them."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from indonesian_rows import LOCAL, from_hub, write

from topeng.cli import main
from topeng.errors import HarnessError
from topeng.evaluate.harness import OUR_TASKS, PRESETS
from topeng.evaluate.harness_options import parse_model_args
from topeng.text.chat import encode_prompt, encode_text

lm_eval = pytest.importorskip("lm_eval")

NLI = "Apakah hipotesis itu benar menurut premis: ya, mungkin, atau tidak?\nJawaban:"
KNOWN = {
    "id_copal_standard": ("Jalan itu basah karena", ["hujan turun semalam.", "matahari terik."], 0),
    "id_copal_colloquial": ("Ibu menanak nasi maka", ["nasi mentah.", "nasi matang!"], 1),
    "id_xcopa": ("Adik jatuh maka", ["ia menangis.", "ia terbang."], 0),
    "id_indonli_lay": (
        f"Premis: Kucing itu tidur di kursi.\nHipotesis: Kucing itu lapar.\n{NLI}",
        ["ya", "mungkin", "tidak"],
        1,
    ),
    "id_indonli_expert": (
        f"Premis: Kucing itu tidur di kursi.\nHipotesis: Kucing itu berlari.\n{NLI}",
        ["ya", "mungkin", "tidak"],
        2,
    ),
    "id_nusax_sentiment": (
        "Ulasan: Pelayanannya buruk\nSentimen ulasan itu: negatif, netral, atau positif?\nJawaban:",
        ["negatif", "netral", "positif"],
        0,
    ),
    "id_global_mmlu_lite": (
        "Ibu kota Indonesia?\nA. Medan\nB. Bali\nC. Jakarta\nD. Solo\nJawaban:",
        ["A", "B", "C", "D"],
        2,
    ),
    "id_nusax_to_english": (
        "Terjemahkan ke dalam bahasa Inggris.\nBahasa Indonesia: Saya pergi ke pasar.\nBahasa Inggris:",
        None,
        "I go to the market.",
    ),
    "id_nusax_to_indonesian": (
        "Terjemahkan ke dalam bahasa Indonesia.\nBahasa Inggris: The cat sleeps.\nBahasa Indonesia:",
        None,
        "Kucing itu tidur.",
    ),
}
"""Of each task the prompt, the choices and the answer of one made-up row."""


def load(name):
    """A task; the harness's own take many seconds to list."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(OUR_TASKS), include_defaults=False).load([name])["tasks"][name]


def told(task):
    """What a task makes of each of its rows, in its order."""
    asked = [(task.doc_to_text(doc), task.doc_to_target(doc)) for doc in task.test_docs()]
    choices = [task.doc_to_choice(doc) if task.config.doc_to_choice else None for doc in task.test_docs()]
    return [(prompt, choice, gold) for (prompt, gold), choice in zip(asked, choices, strict=True)]


@pytest.fixture
def local(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv("TOPENG_BENCHMARKS", str(tmp_path))
    return tmp_path


def evaluate(model, *names, **more):
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(OUR_TASKS), include_defaults=False)
    return lm_eval.simple_evaluate(model=model, tasks=list(names), task_manager=manager, bootstrap_iters=100, **more)


def make(model, tokenizer, **options):
    from topeng.evaluate.harness_model import TopengLM

    return TopengLM(model, tokenizer, *parse_model_args({"draws": 8, "block_length": 32, "steps": 4, **options}))


def save_causal(tokenizer, folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# Rows, prompts, answers


@pytest.mark.parametrize("name", PRESETS["id"])
def test_a_known_row_has_its_prompt_its_choices_and_its_answer(local, name):
    assert KNOWN[name] in told(load(name))


@pytest.mark.parametrize("name", PRESETS["id"])
def test_the_hub_s_copy_is_asked_the_same_in_the_same_order(local, name, monkeypatch):
    from_files = told(load(name))
    monkeypatch.delenv("TOPENG_BENCHMARKS")
    monkeypatch.setattr("datasets.load_dataset", from_hub)
    assert told(load(name)) == from_files and len(from_files) > 1


COUNTS = {
    "id_copal_standard": {0: 279, 1: 280},
    "id_copal_colloquial": {0: 279, 1: 280},
    "id_xcopa": {0: 250, 1: 250},
    "id_indonli_lay": {0: 808, 1: 629, 2: 764},
    "id_indonli_expert": {0: 1041, 1: 944, 2: 999},
    "id_nusax_sentiment": {0: 153, 1: 96, 2: 151},
    "id_global_mmlu_lite": {0: 100, 1: 100, 2: 100, 3: 100},
}
"""Of each task with labels, how often its published file has each."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS["id"])
def test_the_published_files_are_read_whole(shared, name, monkeypatch):
    folder = shared / "data" / "benchmarks"
    monkeypatch.setenv("TOPENG_BENCHMARKS", str(folder))
    task = load(name)
    golds = [task.doc_to_target(doc) for doc in task.test_docs()]
    if name in COUNTS:
        assert Counter(golds) == COUNTS[name]
    else:
        with (folder / "nusax_mt_id_en.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        column = name.rpartition("_")[2]
        assert sorted(golds) == sorted(row[column].strip() for row in rows) and len(golds) == 400
    assert task.config.metadata["source"][task.config.test_split]["sha256"]


def test_files_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPENG_BENCHMARKS", str(tmp_path))
    with pytest.raises(HarnessError, match=r"but xcopa_id\.jsonl cannot be read there \(No such file or directory\)"):
        load("id_xcopa")


def test_without_a_network_the_remedy_is_the_variable(monkeypatch):
    def unreachable(path, **kwargs):
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.delenv("TOPENG_BENCHMARKS", raising=False)
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(HarnessError, match="set TOPENG_BENCHMARKS to a folder that contains xcopa_id"):
        load("id_xcopa")


# Scores


def test_scores_stand_beside_chance_and_say_which_rows_were_asked(local, shared_model, tokenizer):
    names = ["id_xcopa", "id_indonli_lay", "id_nusax_sentiment", "id_global_mmlu_lite", "id_nusax_to_english"]
    results = evaluate(make(shared_model, tokenizer), *names, log_samples=True)
    chance = {name: results["results"][name]["chance,none"] for name in names[:-1]}
    assert chance == pytest.approx(dict(zip(names, [1 / 2, 1 / 3, 1 / 3, 1 / 4], strict=False)))
    assert results["results"]["id_xcopa"]["one_label,none"] == pytest.approx(2 / 3)
    for name in names:
        metadata = results["configs"][name]["metadata"]
        assert f"{metadata['headline']},none" in results["results"][name]
        assert results["results"][name][f"{metadata['headline']}_stderr,none"] != "N/A"
        assert metadata["rows"] == [sample["doc"]["row"] for sample in results["samples"][name]]
    import sacrebleu

    copied, english = zip(*((row["indonesian"], row["english"]) for row in LOCAL["nusax_mt_id_en.csv"]), strict=True)
    expected = sacrebleu.corpus_chrf(copied, [english], word_order=2).score
    assert results["results"]["id_nusax_to_english"]["chance,none"] == pytest.approx(expected)


def test_a_limit_takes_the_same_rows_every_time(local, shared_model, tokenizer):
    model = make(shared_model, tokenizer)
    asked = [
        evaluate(model, "id_xcopa", limit=limit)["configs"]["id_xcopa"]["metadata"]["rows"] for limit in (2, 2, None)
    ]
    assert asked[0] == asked[1] == asked[2][:2] and sorted(asked[2]) == [0, 1, 2]


@pytest.mark.parametrize("chat", [False, True])
def test_labels_are_compared_with_a_prompt_without_content(local, shared_model, tokenizer, chat):
    """Of each label the gain in log-probability that the text brings, one request for all rows."""
    model = make(shared_model, tokenizer)
    results = evaluate(model, "id_nusax_sentiment", log_samples=True, apply_chat_template=chat)
    blank = KNOWN["id_nusax_sentiment"][0].replace("Pelayanannya buruk", "N/A")
    ids = encode_prompt(tokenizer, [{"role": "user", "content": blank}]) if chat else encode_text(tokenizer, blank)
    from topeng.evaluate.harness_text import encode_context

    for sample in results["samples"]["id_nusax_sentiment"]:
        contexts = [argument[0] for argument in sample["arguments"]]
        assert len(contexts) == 6 and len(set(contexts[3:])) == 1 and contexts[0] != contexts[3]
        assert encode_context(tokenizer, contexts[3]) == ids
        values = [response[0][0] for response in sample["resps"]]
        gains = [with_text - without for with_text, without in zip(values[:3], values[3:], strict=True)]
        assert sample["acc_mutual_info"] == float(gains.index(max(gains)) == sample["target"])


def test_examples_come_from_another_split_and_stand_before_the_prompt_without_content_too(
    local, shared_model, tokenizer
):
    results = evaluate(make(shared_model, tokenizer), "id_global_mmlu_lite", num_fewshot=1, log_samples=True)
    examples = [f"{prompt} {choices[gold]}" for prompt, choices, gold in told(load("id_global_mmlu_lite"))]
    for sample in results["samples"]["id_global_mmlu_lite"]:
        example, asked = sample["arguments"][0][0].split("\n\n")
        assert example in examples and asked == told(load("id_global_mmlu_lite"))[sample["doc_id"]][0]
        assert sample["arguments"][4][0].startswith(f"{example}\n\nN/A\nA. N/A")


# The command


@pytest.fixture
def command(monkeypatch, capsys):
    from lm_eval.tasks import TaskManager

    def ours(include_path, metadata):
        return TaskManager(include_path=include_path, include_defaults=False, metadata=metadata)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", ours)
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # it would keep a stream that pytest closes

    def run(*arguments):
        return main(["lm-eval", *arguments]), capsys.readouterr()

    return run


def test_the_command_prints_and_writes_chance(local, command, checkpoint, tmp_path):
    args = f"pretrained={checkpoint},draws=4,device=cpu"
    status, printed = command("--model_args", args, "--tasks", "id_xcopa", "--limit", "2", "-o", str(tmp_path / "out"))
    assert status == 0
    line = next(line for line in printed.out.splitlines() if "chance" in line)
    assert line.split("|")[7].strip() == "0.5"
    (results,) = (tmp_path / "out").rglob("results_*.json")
    written = json.loads(results.read_text())
    assert written["results"]["id_xcopa"]["chance,none"] == 0.5
    assert len(written["configs"]["id_xcopa"]["metadata"]["rows"]) == 2


def test_the_harness_s_own_models_take_the_same_tasks(local, command, tokenizer, tmp_path):
    """As the causal model that a base was converted from, to compare with."""
    save_causal(tokenizer, tmp_path / "causal")
    args = f"pretrained={tmp_path / 'causal'},dtype=float32"
    tasks = "id_copal_colloquial,id_nusax_sentiment"
    status, printed = command("--model", "hf", "--model_args", args, "--device", "cpu", "--tasks", tasks)
    assert status == 0, printed.err
    assert "acc_mutual_info" in printed.out and "chance" in printed.out


@pytest.mark.slow
def test_models_stand_side_by_side_with_pairs_of_rows_compared(local, checkpoint, adapters, tokenizer, tmp_path):
    """As for the causal original, the base made of it and an adapter; a second call scores none again."""
    save_causal(tokenizer, tmp_path / "causal")
    models = [f"original=hf:{tmp_path / 'causal'}", f"base={checkpoint}", f"adapted={checkpoint}+{adapters / 'one'}"]
    script = Path(__file__).parents[2] / "benchmarks" / "indonesian.py"
    options = ["--tasks", "id_xcopa,id_nusax_to_english", "--draws", "4", "--decoding", "steps=4,block_length=32"]
    words = [sys.executable, str(script), str(tmp_path / "out"), *options, *models]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    lines = {line["task"]: line for line in json.loads((tmp_path / "out" / "table.json").read_text())["tasks"]}
    xcopa = lines["id_xcopa"]
    assert (xcopa["rows"], xcopa["chance"], xcopa["metric"]) == (3, 50, "acc_norm")
    assert xcopa["adapted - base"][0] == pytest.approx(xcopa["adapted"][0] - xcopa["base"][0])
    english = lines["id_nusax_to_english"]
    assert english["adapted - base"][0] == pytest.approx(english["adapted"][0] - english["base"][0])
    assert "| id_xcopa | acc_norm | 3 | 50.0 |" in printed
    again = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert again[again.index("| task") :] == printed[printed.index("| task") :]
    assert "bootstrapping" not in again


@pytest.mark.slow
def test_every_task_of_the_preset_is_scored(local, command, checkpoint, tmp_path):
    args = f"pretrained={checkpoint},draws=4,device=cpu,block_length=32,steps=4"
    status, printed = command("--preset", "id", "--model_args", args, "-o", str(tmp_path / "out"))
    assert status == 0, printed.err
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert set(json.loads(results.read_text())["results"]) == set(PRESETS["id"])
