"""A causal model goes on pretraining as a diffusion model: its rows, a LoRA instead of all weights, its attention."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from adapt.conftest import Kill, Killed
from causal import causal_folder
from topeng.adapt import pretrain
from topeng.adapt.convert import convert
from topeng.adapt.distillation import Distillation, teacher_of
from topeng.adapt.fitting import fit
from topeng.adapt.pretrain import pretrain_base
from topeng.diffusion import OBJECTIVES, Step, opened
from topeng.errors import ModelError
from topeng.models import load_model
from topeng.models.attention import annealed, attend, block_causal
from topeng.recipe import parse, slices
from topeng.text.batches import collate
from topeng.text.tokens import Example

STEPS = 6
PLACES = {
    **{"source/train": "Paris is far", "source/test": "Rome is far", "corpus/train": "Medan itu jauh"},
    **{"corpus/validation": "Solo itu jauh", "corpus/test": "Ambon itu jauh"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with rows that tell where they are from, and a converted causal model."""
    folder = tmp_path_factory.mktemp("pretraining")
    for place, text in PLACES.items():
        (folder / place).parent.mkdir(exist_ok=True)
        rows = [{"row_id": row, "input": f"Apa {row}?", "output": f"{text}, {row % 7}."} for row in range(12)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{place}.parquet")
    pq.write_table(pa.table({"text": ["Pasar buka setiap pagi."] * 3}), folder / "source" / "plain.parquet")
    convert(causal_folder(folder / "causal"), folder / "start")
    return folder


def asked(run, **tiny):
    tiny = {"start": str(run / "start"), "steps": STEPS, "batch_rows": 4, "learning_rate": 0.01} | tiny
    train = {"batch_tokens": 200, "save_steps": 2, "report_to": []}
    return slices.pretraining(parse({"base": {"tiny": tiny}, "text": {"max_length": 64, "eos": "one"}, "train": train}))


def pretrained(run, work, **tiny):
    work.mkdir(exist_ok=True)
    pretrain_base(asked(run, **tiny), run, work, Console(quiet=True))
    return load_model(work / "base", torch.float32, "cpu").state_dict()


def examples_of(run, tmp_path, monkeypatch, **tiny):
    found = []
    monkeypatch.setattr(
        pretrain, "trainer_of", lambda asked, model, args, examples, *_: found.append(examples) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        pretrained(run, tmp_path, **tiny)
    return found[0]


def towns(run, examples):
    tokenizer = pretrain.load_tokenizer(run / "start")
    texts = [tokenizer.decode(example.input_ids[example.prompt_length :]) for example in examples]
    return {text.split()[0] for text in texts if "far" in text or "jauh" in text}


@pytest.mark.parametrize(
    ("rows", "learnt", "held_out"),
    [
        ("source", {"Paris"}, {"Rome"}),
        ("target", {"Medan"}, {"Solo"}),
        ("both", {"Paris", "Medan"}, {"Rome", "Solo"}),
    ],
)
def test_it_learns_the_rows_asked_for_and_none_that_are_held_out(run, tmp_path, monkeypatch, rows, learnt, held_out):
    examples = examples_of(run, tmp_path, monkeypatch, rows=rows)
    assert towns(run, examples.train) == learnt and towns(run, examples.held_out) == held_out
    assert len(examples.train) == 12 * len(learnt) + 3
    assert len({example.noise_id for example in examples.train}) == len(examples.train)


def test_a_lora_is_merged_and_moves_nothing_but_what_it_adapts(run, tmp_path):
    before, after = load_model(run / "start", torch.float32, "cpu").state_dict(), pretrained(run, tmp_path, lora_rank=2)
    ranks = {
        name: int(torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3)) for name in after if "_proj" in name
    }
    assert before.keys() == after.keys() and set(ranks.values()) == {2}
    assert all(torch.equal(after[name], before[name]) for name in after if name not in ranks)


def assert_resumes_to(whole, run, work, monkeypatch, tiny):
    """A pretraining that is killed after four steps and run again ends with these weights."""
    monkeypatch.setattr(pretrain, "fit", lambda trainer, shown: fit(trainer, shown, [Kill(after=4)]))
    with pytest.raises(Killed):
        pretrained(run, work, **tiny)
    monkeypatch.undo()
    again = pretrained(run, work, **tiny)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_killed_pretraining_goes_on_to_the_same_base(run, tmp_path, monkeypatch):
    tiny = {"lora_rank": 2, "anneal_steps": 5}
    whole = pretrained(run, tmp_path / "whole", **tiny)
    assert_resumes_to(whole, run, tmp_path / "killed", monkeypatch, tiny)


def batch_of(lengths):
    random = np.random.default_rng(0)
    rows = [Example(row, random.integers(0, 250, length).tolist(), 3) for row, length in enumerate(lengths)]
    return collate(rows, 256)


def test_attention_opens_at_random_and_by_the_row_alone():
    batch = batch_of([40, 24])
    mask, ids = batch["attention_mask"], batch["row_ids"]
    for share in (0.0, 0.3, 1.0):
        pairs = opened(mask, 7, 3, ids, share)
        assert abs(pairs[0].float().mean() - share) < 0.05 and not pairs[1, :, 24:].any()
    pairs = opened(mask, 7, 3, ids, 0.3)
    assert torch.equal(pairs[1:, :24, :24], opened(mask[1:, :24], 7, 3, ids[1:], 0.3))
    assert not torch.equal(pairs, opened(mask, 7, 4, ids, 0.3))
    assert bool((opened(mask, 7, 3, ids, 0.6) | ~pairs).all())  # what a smaller share opens stays open


@torch.no_grad()
@pytest.mark.parametrize("name", ["masked", "block"])
def test_it_begins_as_a_causal_network_and_ends_as_its_objective_wants(run, name):
    model, objective = load_model(run / "start", torch.float32, "cpu"), OBJECTIVES[name](8)
    attend(model, objective.attention_block)
    batch = batch_of([24, 17])
    step = Step("stratified", 0, 0, torch.arange(2), 2)
    inputs = objective.training_pass(batch, step, model.config)
    positions = inputs.get("position_ids", torch.arange(24).expand(2, -1))

    def hidden(share):
        pairs = opened(batch["attention_mask"], 0, 0, batch["row_ids"], share)
        attention = annealed(inputs["attention_mask"], positions, pairs)
        return model.model(inputs["input_ids"], attention_mask=attention, position_ids=positions).last_hidden_state

    wanted = inputs["attention_mask"]
    wanted = model.model(inputs["input_ids"], attention_mask=wanted, position_ids=positions).last_hidden_state
    torch.testing.assert_close(hidden(1.0)[1, :17], wanted[1, :17], atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden(1.0)[0], wanted[0], atol=1e-5, rtol=0)
    now = hidden(0.0)
    if name == "masked":
        visible = inputs["attention_mask"].bool()
        causal = block_causal(visible, positions, positions, 1)
        causal = model.model(inputs["input_ids"], attention_mask=causal, position_ids=positions).last_hidden_state
        torch.testing.assert_close(now[visible], causal[visible], atol=1e-5, rtol=0)
    inputs["input_ids"] = inputs["input_ids"].clone()
    inputs["input_ids"][:, 9] = 5  # of the noisy row
    moved = (hidden(0.0) - now).abs().amax(dim=-1) > 0
    assert not moved[:, :9].any() and moved[:, 9].all()
    assert not torch.allclose(hidden(1.0)[:, 8], wanted[:, 8], atol=1e-5)


def test_the_trainer_opens_it_step_by_step(run, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(pretrain, "fit", lambda trainer, shown: made.append(trainer) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrained(run, tmp_path, anneal_steps=4)
    (trainer,), seen = made, {}
    for trainer.state.global_step in (0, 2, 4):
        seen[trainer.state.global_step] = trainer._noisy_pass(trainer.train_dataset[:4], [0, 1, 2, 3])["attention_mask"]
    lengths = seen[4].sum(dim=1)
    assert seen[4].ndim == 2 and seen[0].tril().any() and not seen[0].triu(1).any()
    assert abs(seen[2].triu(1).sum() / (lengths * (lengths - 1) / 2).sum() - 0.5) < 0.05


def test_what_goes_not_together_is_named():
    for values, message in (
        ({"base": {"tiny": {"lora_rank": 4}}}, "lora_rank = 4 continues a base that has learnt something"),
        ({"base": {"tiny": {"anneal_steps": 4}}}, "anneal_steps = 4 continues a base"),
        ({"base": {"convert": "x", "tiny": {"anneal_steps": 9, "steps": 8}}}, "must be at most steps = 8"),
        (
            {"base": {"convert": "x", "tiny": {"anneal_steps": 4}}, "train": {"objectives": ["autoregressive"]}},
            "`autoregressive`, the first of train.objectives, looks back only",
        ),
    ):
        with pytest.raises(Exception, match=message):
            parse(values)


def test_a_start_is_read_at_the_revision_that_the_recipe_names(run, tmp_path, monkeypatch):
    read = []

    def remembered(load):
        return lambda *named: read.append(named[-1]) or load(*named)

    for name in ("load_model", "load_tokenizer"):
        monkeypatch.setattr(pretrain, name, remembered(getattr(pretrain, name)))
    base = {"revision": "abc123", "tiny": {"start": str(run / "start"), "steps": 1, "batch_rows": 4}}
    recipe = parse({"base": base, "text": {"max_length": 64, "eos": "one"}, "train": {"report_to": []}})
    pretrain_base(slices.pretraining(recipe), run, tmp_path, Console(quiet=True))
    assert read == ["abc123", "abc123"]


def distilled(run, weight):
    """A model, its teacher, a masked pass, and the output of their distillation."""
    model = load_model(run / "start", torch.float32, "cpu")
    teacher = teacher_of(model)
    batch = batch_of([40, 24])
    inputs = OBJECTIVES["masked"](None).training_pass(batch, Step("stratified", 0, 0, torch.arange(2), 2), model.config)
    return model, teacher, batch, inputs, Distillation(teacher, weight)(model, inputs)


def test_a_teacher_that_counts_nothing_leaves_the_loss_as_it_is(run):
    model, _, _, inputs, output = distilled(run, 0.0)
    own = model(**inputs)
    torch.testing.assert_close(output.loss, own.loss)
    torch.testing.assert_close(output.token_nll, own.token_nll)


def test_the_teacher_sees_what_is_before_and_its_distributions_are_learnt(run):
    model, teacher, batch, inputs, output = distilled(run, 0.75)
    visible, masked = batch["attention_mask"], inputs["head_positions"]
    with torch.no_grad():
        before = teacher(input_ids=batch["input_ids"], attention_mask=visible).logits.softmax(dim=-1)
        now = model(input_ids=inputs["input_ids"], attention_mask=visible).logits.log_softmax(dim=-1)
    soft = -(before * now).sum(dim=-1)[masked]
    nll = -now[masked].gather(1, inputs["targets"][:, None])[:, 0]
    torch.testing.assert_close(output.loss, ((0.25 * nll + 0.75 * soft) * inputs["weights"]).sum())
    later = batch["input_ids"].clone()
    later[:, 20:] = 5
    with torch.no_grad():
        changed = teacher(input_ids=later, attention_mask=visible).logits.softmax(dim=-1)
    torch.testing.assert_close(changed[:, :20], before[:, :20])
    output.loss.backward()
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_killed_distillation_goes_on_with_the_same_teacher(run, tmp_path, monkeypatch):
    tiny = {"distillation_weight": 0.5}
    whole = pretrained(run, tmp_path / "whole", **tiny)
    plain = pretrained(run, tmp_path / "plain")
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)
    assert_resumes_to(whole, run, tmp_path / "killed", monkeypatch, tiny)


def test_a_base_that_predicts_its_own_tokens_is_no_teacher(run):
    model = load_model(run / "start", torch.float32, "cpu")
    attend(model, None, predicts_next=False)
    with pytest.raises(ModelError, match="shift: true"):
        teacher_of(model)
