"""Topeng's models under the real harness, on tasks over local files."""

import functools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import topeng
from topeng.cli import main
from topeng.diffusion import response_nll
from topeng.errors import HarnessError, RecipeError
from topeng.evaluate.harness import OUR_TASKS, PRESETS, complete
from topeng.evaluate.harness_options import ModelOptions, check_device, decoding, parse_model_args
from topeng.evaluate.harness_text import content_id, cut_windows, encode_context, encode_pair, render_chat
from topeng.generate.answer import answers
from topeng.generate.decode import generate_ids
from topeng.generate.settings import Settings
from topeng.models.attention import attend
from topeng.text.chat import encode_answer, encode_prompt, encode_text, special_tokens
from topeng.text.tokens import Example

lm_eval = pytest.importorskip("lm_eval")

ROWS = [
    {"question": "Ibu kota Indonesia?", "choices": ["Jakarta", "Bandung", "Medan", "Bali"], "answer": 0},
    {"question": "Kucing itu tidur di mana?", "choices": ["lantai", "kursi kayu", "di atap", "luar"], "answer": 1},
    {"question": "What is the capital?", "choices": ["Medan", "a cat", "Jakarta", "the chair"], "answer": 2},
]
TEXT = "Kucing itu tidur di kursi kayu. "
TASKS = {
    "letters": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nJawaban:",
        "target_delimiter": "",
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "texts": {
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}],
    },
    "answers": {
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 16, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "perplexity": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} " + TEXT,
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder of tasks; YAML reads JSON."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    kwargs = {"data_files": {"test": str(folder / "rows.jsonl")}, "cache_dir": str(folder / "cache")}
    for name, task in TASKS.items():
        source = {"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": kwargs, "test_split": "test"}
        (folder / f"{name}.yaml").write_text(json.dumps(source | task))
    return folder


@pytest.fixture
def manager(tasks):
    """The harness's own tasks take many seconds to list."""
    from lm_eval.tasks import TaskManager

    return functools.partial(TaskManager, include_path=str(tasks), include_defaults=False)


def make(model, tokenizer, **options):
    from topeng.evaluate.harness_model import TopengLM

    return TopengLM(model, tokenizer, *parse_model_args({"draws": 8, "block_length": 8, **options}))


def requests(*arguments):
    return [SimpleNamespace(args=args) for args in arguments]


def evaluate(model, manager, *names, **more):
    return lm_eval.simple_evaluate(
        model=model,
        tasks=[f"local_{name}" for name in names],
        task_manager=manager(),
        bootstrap_iters=0,
        log_samples=True,
        **more,
    )


def responses(results, name):
    """Of each row, what came back for each of its requests."""
    return [[response[0] for response in sample["resps"]] for sample in results["samples"][f"local_{name}"]]


def nll(model, context, continuation, draws=8, seed=0):
    """The estimate of `topeng evaluate`."""
    example = Example(content_id(tuple(context), tuple(continuation)), [*context, *continuation], len(context))
    estimate = response_nll(model, [example], draws, seed)
    return float(np.mean(estimate))


def count_passes(model, monkeypatch):
    """Rows of each forward pass from here on."""
    passes, forward = [], model.forward

    def counting(*args, **kwargs):
        passes.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counting)
    return passes


# Texts and tokens


@pytest.mark.parametrize("content", ["Apa? ", "A. ya\nB. tidak\nJawaban:", "a <|eot_id|> and a <|mdm_mask|> in text"])
def test_a_chat_has_the_tokens_of_training(tokenizer, content):
    messages = [
        {"role": "system", "content": "Jawab."},
        {"role": "user", "content": "Siapa?"},
        {"role": "assistant", "content": "Saya."},
        {"role": "user", "content": content},
    ]
    ids = encode_context(tokenizer, render_chat(messages))
    assert ids == encode_prompt(tokenizer, messages)
    context, continuation = encode_pair(tokenizer, render_chat(messages), "Itu kucing.")
    assert context == ids and continuation == encode_answer(tokenizer, "Itu kucing.")[:-1]


def test_a_chat_has_an_assistants_header_only_where_it_is_asked_for(tokenizer):
    messages = [{"role": "user", "content": "Apa?"}]
    assert render_chat(messages, add_generation_prompt=False).endswith("Apa?<|eot_id|>")
    closed = encode_context(tokenizer, render_chat(messages, add_generation_prompt=False))
    asked = encode_prompt(tokenizer, messages)
    assert closed == asked[: len(closed)] and closed[-1] == special_tokens(tokenizer).eot
    opened = render_chat([*messages, {"role": "assistant", "content": "Itu"}], add_generation_prompt=False)
    context, continuation = encode_pair(tokenizer, opened, " kucing")
    assert context == asked + encode_text(tokenizer, "Itu")
    assert context + continuation == asked + encode_text(tokenizer, "Itu kucing")


def test_spaces_between_context_and_continuation_belong_to_the_continuation(tokenizer):
    expected = encode_text(tokenizer, "Kucing itu"), encode_text(tokenizer, " tidur")
    assert encode_pair(tokenizer, "Kucing itu", " tidur") == expected
    assert encode_pair(tokenizer, "Kucing itu ", "tidur") == expected


def test_a_token_that_would_straddle_the_cut_is_none(tokenizer):
    context, continuation = encode_pair(tokenizer, "Kuc", "ing itu")
    assert tokenizer.decode(context) == "Kuc" and tokenizer.decode(continuation) == "ing itu"


def test_windows_score_each_token_once_and_the_last_is_filled_up():
    assert cut_windows([1, 2, 3, 4, 5], 4) == [([], [1, 2, 3, 4]), ([2, 3, 4], [5])]
    assert cut_windows([1, 2], 4) == [([], [1, 2])] and cut_windows([], 4) == []


# Tasks of every kind, under the harness


def test_letters_are_scored_exactly_in_one_pass(shared_model, tokenizer, manager, monkeypatch):
    passes = count_passes(shared_model, monkeypatch)
    results = evaluate(make(shared_model, tokenizer), manager, "letters")
    assert passes == [len(ROWS)]  # a row a question, whatever its choices
    for sample, found in zip(results["samples"]["local_letters"], responses(results, "letters"), strict=True):
        pairs = [encode_pair(tokenizer, *arguments) for arguments in sample["arguments"]]
        assert [len(continuation) for _, continuation in pairs] == [1] * 4
        assert [value for value, _ in found] == pytest.approx([-nll(shared_model, *pair) for pair in pairs], abs=1e-6)
    assert results["results"]["local_letters"]["acc,none"] in (0, 1 / 3, 2 / 3, 1)


def test_letters_take_one_pass_a_batch(shared_model, tokenizer, manager, monkeypatch):
    passes = count_passes(shared_model, monkeypatch)
    together = responses(evaluate(make(shared_model, tokenizer), manager, "letters"), "letters")
    passes.clear()
    alone = responses(evaluate(make(shared_model, tokenizer, batch_tokens=1), manager, "letters"), "letters")
    assert passes == [1] * len(ROWS)
    torch.testing.assert_close(torch.tensor(alone), torch.tensor(together), atol=1e-5, rtol=0)


def test_texts_have_the_likelihood_that_evaluate_takes(shared_model, tokenizer, manager):
    results = evaluate(make(shared_model, tokenizer), manager, "texts")
    found = [value for row in responses(results, "texts") for value, _ in row]
    asked = [arguments for sample in results["samples"]["local_texts"] for arguments in sample["arguments"]]
    expected = [-nll(shared_model, *encode_pair(tokenizer, *arguments)) for arguments in asked]
    assert found == pytest.approx(expected, abs=1e-5)  # batched otherwise: sums in another order


def test_a_whole_text_has_the_likelihood_that_evaluate_takes(shared_model, tokenizer, manager):
    results = evaluate(make(shared_model, tokenizer), manager, "perplexity")
    found = [row[0] for row in responses(results, "perplexity")]
    texts = [f"{row['question']} {TEXT}" for row in ROWS]
    expected = [-nll(shared_model, [], encode_text(tokenizer, text)) for text in texts]
    assert found == pytest.approx(expected, abs=1e-5)
    bits = -sum(expected) / sum(len(text.encode()) for text in texts) / np.log(2)
    assert results["results"]["local_perplexity"]["bits_per_byte,none"] == pytest.approx(bits)


def test_a_text_beyond_the_context_is_cut_into_windows(shared_model, tokenizer):
    text = TEXT * 40
    ids, model = encode_text(tokenizer, text), make(shared_model, tokenizer)
    assert len(ids) > model.max_length
    (found,) = model.loglikelihood_rolling(requests((text,)), disable_tqdm=True)
    assert found == pytest.approx(-sum(nll(shared_model, *window) for window in cut_windows(ids, model.max_length)))


@pytest.mark.parametrize("chat", [False, True])
def test_answers_are_decoded_and_cut(shared_model, tokenizer, manager, chat):
    model = make(shared_model, tokenizer)
    found = [row[0] for row in responses(evaluate(model, manager, "answers", apply_chat_template=chat), "answers")]
    assert len(found) == len(ROWS) and not any("." in answer for answer in found)
    if chat:
        settings = Settings(max_new_tokens=16, block_length=8, stop_at_end=True)
        whole = list(answers(shared_model, tokenizer, [row["question"] for row in ROWS], settings))
        texts = [answer.answer for answer in sorted(whole, key=lambda answer: answer.index)]
        assert [answer.strip() for answer in found] == [text.split(".")[0].strip() for text in texts]
        assert any(found)


def test_a_system_message_is_part_of_the_chat(shared_model, tokenizer, manager):
    system = "Jawablah dengan singkat."
    model = make(shared_model, tokenizer)
    results = evaluate(model, manager, "texts", apply_chat_template=True, system_instruction=system)
    row = ROWS[0]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": row["question"]}]
    prompt = encode_prompt(tokenizer, messages)
    expected = [-nll(shared_model, prompt, encode_text(tokenizer, choice)) for choice in row["choices"]]
    assert [value for value, _ in responses(results, "texts")[0]] == pytest.approx(expected, abs=1e-5)


def test_a_chat_is_scored_in_the_format_of_training(shared_model, tokenizer, manager):
    results = evaluate(make(shared_model, tokenizer), manager, "texts", apply_chat_template=True)
    row = ROWS[0]
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": row["question"]}])
    expected = [-nll(shared_model, prompt, encode_text(tokenizer, choice)) for choice in row["choices"]]
    assert [value for value, _ in responses(results, "texts")[0]] == pytest.approx(expected, abs=1e-5)


# Requests


def test_a_request_has_its_own_masks_whatever_stands_beside_it(shared_model, tokenizer):
    asked = requests(*((row["question"], f" {choice}") for row in ROWS for choice in row["choices"]))
    together = make(shared_model, tokenizer).loglikelihood(asked, disable_tqdm=True)
    small = make(shared_model, tokenizer, batch_tokens=1)
    alone = [small.loglikelihood([request], disable_tqdm=True)[0] for request in asked[::-1]]
    torch.testing.assert_close(torch.tensor(alone[::-1]), torch.tensor(together), atol=1e-5, rtol=0)
    other = make(shared_model, tokenizer, seed=1).loglikelihood(asked, disable_tqdm=True)
    assert [value for value, _ in other] != [value for value, _ in together]


def test_greedy_is_what_one_pass_over_all_masks_says(shared_model, tokenizer):
    context = encode_text(tokenizer, "Kucing itu")
    mask = shared_model.config.mask_token_id
    logits = shared_model(input_ids=torch.tensor([context + [mask] * 3])).logits[0, -3:]
    logits[:, mask] = -torch.inf
    from topeng.evaluate.harness_model import wholly_masked

    likeliest = tuple(logits.argmax(dim=-1).tolist())
    other = (*likeliest[:2], likeliest[2] - 1)
    (seen,) = wholly_masked(shared_model, [(tuple(context), likeliest), (tuple(context), other)], 64)
    assert seen[tuple(context), likeliest][1] and not seen[tuple(context), other][1]


def test_nothing_to_score_is_certain(shared_model, tokenizer):
    assert make(shared_model, tokenizer).loglikelihood(requests(("Apa?", "")), disable_tqdm=True) == [(0.0, True)]


def test_a_long_context_loses_its_beginning_and_a_continuation_nothing(shared_model, tokenizer, caplog):
    model = make(shared_model, tokenizer)
    context, continuation = encode_pair(tokenizer, TEXT * 40, " tidur")
    (answer,) = model.loglikelihood(requests((TEXT * 40, " tidur")), disable_tqdm=True)
    kept = context[len(context) + len(continuation) - model.max_length :]
    assert answer[0] == pytest.approx(-nll(shared_model, kept, continuation), abs=1e-5)
    assert f"was cut to {len(kept)}" in caplog.text
    with pytest.raises(HarnessError, match="does not fit the model's context of 256"):
        model.loglikelihood(requests(("Apa?", TEXT * 40)), disable_tqdm=True)


@pytest.mark.parametrize(("opened", "continuation"), [("", "tidur"), ("Jawabnya:", " tidur")])
def test_a_long_chat_is_cut_as_in_training(shared_model, tokenizer, opened, continuation):
    """Its system message and its question stay; the oldest turn leaves."""
    system = {"role": "system", "content": "Jawablah dengan singkat."}
    question = {"role": "user", "content": "Kucing itu tidur di mana?"}
    oldest = [{"role": "user", "content": TEXT * 40}, {"role": "assistant", "content": "Ya."}]
    model = make(shared_model, tokenizer)
    kept, answer = encode_pair(tokenizer, render_chat([system, question]) + opened, continuation)
    context = render_chat([system, *oldest, question]) + opened
    ((value, _),) = model.loglikelihood(requests((context, continuation)), disable_tqdm=True)
    assert value == pytest.approx(-nll(shared_model, kept, answer), abs=1e-5)
    assert model._prompt(context, model.settings) == encode_context(tokenizer, render_chat([system, question]) + opened)
    long = [system, {"role": "user", "content": TEXT * 40}]
    room = model.max_length - model.settings.max_new_tokens - len(encode_text(tokenizer, opened))
    cut = [*encode_prompt(tokenizer, long, max_tokens=room), *encode_text(tokenizer, opened)]
    assert model._prompt(render_chat(long) + opened, model.settings) == cut


def test_repeats_of_a_sampled_request_differ_and_come_again(shared_model, tokenizer):
    arguments = ("Apa?", {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 3.0})
    model = make(shared_model, tokenizer)
    first, second = model.generate_until(requests(arguments, arguments), disable_tqdm=True)
    assert first != second
    alone = make(shared_model, tokenizer, batch_tokens=1).generate_until(requests(arguments), disable_tqdm=True)
    assert alone == [first]


def test_answers_leave_room_for_a_prompt(shared_model, tokenizer):
    with pytest.raises(HarnessError, match="leaves no room for its prompt in the model's context of 256"):
        make(shared_model, tokenizer).generate_until(requests(("Apa?", {"max_gen_toks": 256})), disable_tqdm=True)


# Arguments


def test_a_tasks_arguments_change_the_settings():
    base = Settings(max_new_tokens=64, steps=32, block_length=16, temperature=0.5)
    settings, limit, until = decoding(base, {"until": "\n", "max_gen_toks": 20, "do_sample": False})
    assert (settings.max_new_tokens, limit, until) == (32, 20, ["\n"])
    assert settings.steps == 16 and settings.temperature == 0  # as many a block
    assert decoding(base, {}) == (base, 64, [])


def test_unknown_arguments_of_a_task_are_named(caplog):
    settings, _, _ = decoding(Settings(), {"num_beams": 4, "top_p": 0.9})
    assert settings.top_p == 0.9 and "num_beams" in caplog.text


def test_model_arguments_are_options_and_settings():
    options, settings = parse_model_args({"draws": 4, "preset": "fast", "entropy_bound": 0.5, "seed": 3})
    assert (options.draws, options.seed) == (4, 3)
    bound = {"policy": "entropy_bound", "entropy_bound": 0.5}
    assert settings == Settings(**bound, cache="prefix", window=128, stop_at_end=True, seed=3)


def test_settings_of_the_checkpoint_stand_between_preset_and_arguments(tmp_path):
    own = {"max_new_tokens": 24, "block_length": 8, "turns": 0}
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    values = {"pretrained": str(tmp_path), "preset": "quality"}
    settings = parse_model_args(values)[1]
    assert (settings.max_new_tokens, settings.block_length, settings.policy) == (24, 8, "entropy_bound")
    assert parse_model_args(values | {"max_new_tokens": 16})[1].max_new_tokens == 16
    (tmp_path / "generation_config.json").write_text(json.dumps({"max_new_tokens": 20}))  # a causal model's
    assert parse_model_args(values)[1].max_new_tokens == 128


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"draw": 4}, "unknown argument 'draw': did you mean 'draws'?"),
        ({"trust_remote_code": True}, "unknown argument 'trust_remote_code'"),
        ({"draws": 0}, "draws = 0 must be at least 1"),
        ({"draws": 6, "replicates": 4}, "draws = 6 must be a multiple of replicates = 4"),
        ({"dtype": "int9"}, "dtype = 'int9' is not a dtype"),
        ({"preset": "best"}, "preset = 'best' must be one of reference, quality, fast"),
        ({"threshold": 2}, "threshold = 2.0 must be at most 1"),
    ],
)
def test_wrong_model_arguments(values, message):
    with pytest.raises(RecipeError) as error:
        parse_model_args(values)
    assert message in str(error.value)


def test_the_harness_may_name_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_device("cuda:0", by_default=True) is None and check_device("cpu", by_default=False) == "cpu"
    with pytest.raises(RecipeError, match="this machine has no GPU"):
        check_device("cuda:0", by_default=False)
    with pytest.raises(RecipeError, match="device = 'cudda' is not a device"):
        check_device("cudda", by_default=False)


def test_what_may_be_left_out():
    names = ",".join(PRESETS["indonesian"])
    ours = ["--include_path", str(OUR_TASKS)]
    expected = ["run", *ours, "--model", "topeng", "--tasks", names, "--limit", "2"]
    assert complete(["--limit", "2"], "indonesian") == expected
    assert complete(["run", "--model=hf"]) == ["run", *ours, "--model=hf"]
    assert complete(["ls", "tasks"]) == ["ls", "tasks", *ours]
    other = ["run", "--include_path", "mine", "--model", "topeng", "--tasks", "a"]
    assert sorted(complete(other[3:] + other[1:3])) == sorted(other)


# The command


@pytest.fixture
def command(manager, monkeypatch, capsys):
    """Runs `topeng lm-eval` on the local tasks; its status and what it printed."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **kwargs: manager())
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # it would keep a stream that pytest closes

    def run(*arguments):
        return main(["lm-eval", *arguments]), capsys.readouterr()

    return run


def test_the_command_scores_an_adapter(command, checkpoint, adapters, tmp_path, tokenizer):
    args = f"pretrained={checkpoint},adapter={adapters / 'one'},draws=8,device=cpu"
    status, printed = command("--model_args", args, "--tasks", "local_texts", "--log_samples", "-o", str(tmp_path))
    assert status == 0 and "local_texts" in printed.out and "acc_norm" in printed.out
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    row = json.loads(samples.read_text().splitlines()[0])
    pair = encode_pair(tokenizer, ROWS[0]["question"], f" {ROWS[0]['choices'][0]}")
    adapted, _ = topeng.load(checkpoint, adapters / "one", device="cpu")
    base, _ = topeng.load(checkpoint, device="cpu")
    assert float(row["resps"][0][0][0]) == pytest.approx(-nll(adapted, *pair), abs=1e-5)
    assert abs(nll(base, *pair) - nll(adapted, *pair)) > 1e-2
    (results,) = tmp_path.rglob("results_*.json")
    assert json.loads(results.read_text())["config"]["topeng"]["draws"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "nowhere"], "Tasks not found: nowhere"),
        (["--tasks", "local_texts", "--model_args", "adapter=one"], "names no model. Write pretrained=FOLDER"),
        (["--tasks", "local_texts", "--model_args", "pretrained=./nowhere"], "no checkpoint folder ./nowhere"),
        (["--preset", "javanese"], "--preset = 'javanese' must be one of indonesian"),
        (["--preset", "indonesian", "--tasks", "arc_id"], "both name tasks"),
    ],
)
def test_wrong_input_is_one_line_and_status_1(command, arguments, message):
    status, printed = command(*arguments)
    errors = [line for line in printed.err.splitlines() if line.startswith("topeng: ")]
    assert status == 1 and len(errors) == 1 and message in errors[0]
    assert "Traceback" not in printed.err


def test_without_the_harness_its_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["lm-eval", "--tasks", "arc_id"]) == 1
    assert "pip install 'topeng[eval]'" in capsys.readouterr().err


def test_a_named_chat_template_is_refused(shared_model, tokenizer):
    with pytest.raises(RecipeError, match="there is only one chat format"):
        make(shared_model, tokenizer).chat_template("rag")


def test_the_preset_names_tasks_that_the_harness_has():
    from pathlib import Path

    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.__file__).parent / "tasks"
    families = ["belebele", "okapi", "copal_id", "xcopa", "global_mmlu/default/id", "include/default/Indonesian"]
    manager = TaskManager(include_path=[str(folder / name) for name in families], include_defaults=False)
    assert set(PRESETS["indonesian"]) <= set(manager.all_tasks)


def test_options_have_defaults():
    assert ModelOptions().draws == 128


@torch.no_grad()
def test_an_autoregressive_model_s_likelihoods_are_exact(model, tokenizer):
    """And its continuation is the likeliest where it is what is decoded greedily; a text follows an end token."""
    attend(model, 1, True)
    lm = make(model, tokenizer, max_new_tokens=8, batch_tokens=512)
    context, answer = encode_pair(tokenizer, "Ibu kota?", "kursi")
    text = tokenizer.decode(
        generate_ids(model, torch.tensor([context]), None, Settings(max_new_tokens=8, block_length=8))[
            0, len(context) :
        ]
    )
    greedy = encode_pair(tokenizer, "Ibu kota?", text)[1]
    found = lm.loglikelihood(requests(("Ibu kota?", "kursi"), ("Ibu kota?", text), ("Ibu kota?", "")))
    for (value, likeliest), continuation in zip(found, (answer, greedy), strict=False):
        logits = model(input_ids=torch.tensor([[*context, *continuation]]), moved=False).logits[0]
        log_p = logits.log_softmax(dim=-1)[len(context) - 1 : -1]
        expected = log_p.gather(1, torch.tensor(continuation)[:, None]).sum().item()
        assert value == pytest.approx(expected, rel=1e-5)
        log_p[:, model.config.mask_token_id] = -torch.inf
        assert likeliest == (log_p.argmax(dim=-1).tolist() == list(continuation))
    assert found[2] == (0.0, True) and not found[0][1]
    ids = encode_text(tokenizer, TEXT)
    log_p = model(input_ids=torch.tensor([[model.config.eos_token_id, *ids]]), moved=False).logits[0].log_softmax(-1)
    expected = log_p[:-1].gather(1, torch.tensor(ids)[:, None]).sum().item()
    assert lm.loglikelihood_rolling(requests((TEXT,))) == [pytest.approx(expected, rel=1e-5)]
