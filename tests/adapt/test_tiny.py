"""What a tiny base begins with, and the optimiser that pretrains it."""

import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.muon import MuonAndAdamW
from topeng.adapt.pretrain import _with_beginnings, pretrain_base
from topeng.adapt.tiny import copy_from_the_start, new_model, tiny_config
from topeng.models import load_model, load_tokenizer
from topeng.recipe import parse, slices
from topeng.text.tokens import Example

SHAPE = TinyOptions(vocab_size=400, hidden_size=128, layers=2)


@pytest.fixture
def base():
    model = new_model(tiny_config(SHAPE, context=64), seed=0)
    copy_from_the_start(model, seed=1)
    return model


def step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(400, (4, 12), generator=generator)
    model(input_ids=tokens).logits.logsumexp(-1).mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def copied_share(model):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(6, 400, (200, 12), generator=generator)
    tokens[:, 5] = model.config.mask_token_id
    with torch.no_grad():
        found = model(input_ids=tokens).logits[:, 5]
    found[:, model.config.mask_token_id] = -torch.inf  # its own embedding is the nearest
    return (tokens == found.argmax(-1)[:, None]).any(dim=1).float().mean()


def test_the_first_prediction_tends_to_a_word_of_the_text(base):
    """Before a step of training."""
    plain = new_model(tiny_config(SHAPE, context=64), seed=0)
    assert copied_share(plain) < 0.1 and copied_share(base) > 0.2


def test_the_weights_are_those_of_the_seed(base):
    again, other = (new_model(tiny_config(SHAPE, context=64), seed=0) for _ in range(2))
    state = torch.random.get_rng_state()
    copy_from_the_start(again, seed=1)
    copy_from_the_start(other, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [model.model.layers[1].self_attn.q_proj.weight for model in (base, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_an_optimiser_that_is_saved_goes_on_to_the_same_weights(base):
    whole, halves = base, copy.deepcopy(base)
    optimizer = MuonAndAdamW(whole, 0.01)
    for seed in range(4):
        step(whole, optimizer, seed)
    first = MuonAndAdamW(halves, 0.01)
    for seed in range(2):
        step(halves, first, seed)
    second = MuonAndAdamW(halves, 0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for seed in range(2, 4):
        step(halves, second, seed)
    assert all(map(torch.equal, whole.parameters(), halves.parameters()))


def test_a_schedule_sets_the_rate_of_all_weights(base):
    before = copy.deepcopy(base.state_dict())
    optimizer = MuonAndAdamW(base, 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.0)
    step(base, optimizer, 0)
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())
    assert {group["lr"] for group in optimizer.param_groups} == {0.0} and schedule.get_last_lr() == [0.0, 0.0]


def test_pretraining_goes_on_from_a_checkpoint(checkpoint, tokenizer, tmp_path):
    """Its shape and its tokenizer stay."""
    (tmp_path / "source").mkdir()
    rows = pa.table(
        {"row_id": [0, 1, 2], "input": ["Apa?", "Siapa?", "Di mana?"], "output": ["Ini.", "Saya.", "Sana."]}
    )
    for name in ("train", "test"):
        pq.write_table(rows, tmp_path / "source" / f"{name}.parquet")
    pq.write_table(pa.table({"text": ["Kucing itu tidur di kursi kayu."]}), tmp_path / "source" / "plain.parquet")
    values = {
        "base": {"tiny": {"start": str(checkpoint), "steps": 2, "batch_rows": 2}},
        "text": {"max_length": 64},
        "train": {"report_to": []},
    }
    pretrain_base(slices.pretraining(parse(values)), tmp_path, tmp_path / "work", Console(quiet=True))
    made, start = load_model(tmp_path / "work" / "base"), load_model(checkpoint)
    assert made.config.hidden_size == start.config.hidden_size == 64
    differences = [
        float((now - then).abs().max()) for now, then in zip(made.parameters(), start.parameters(), strict=True)
    ]
    assert 0 < max(differences) < 0.5
    assert load_tokenizer(tmp_path / "work" / "base").get_vocab() == tokenizer.get_vocab()


def test_a_beginning_of_three_of_four_texts_is_given_up_to_the_end_of_a_sentence_line_or_speaker(tokenizer):
    story = "Ibu tidur. Ayah bertanya: Di mana kucing itu? Kakak: Di kursi\nkayu"
    ids = tokenizer(story, add_special_tokens=False).input_ids
    texts = [Example(row, ids, 1) for row in range(80)]
    found = _with_beginnings(texts, tokenizer, seed=3)
    assert [text.prompt_length for text in found[::4]] == [1] * 20
    given = {tokenizer.decode(text.input_ids[: text.prompt_length])[-1] for text in found if text.row_id % 4}
    assert given == set(".:?\n")
    assert found == _with_beginnings(texts, tokenizer, seed=3) != _with_beginnings(texts, tokenizer, seed=4)
    assert _with_beginnings([], tokenizer, seed=3) == []
    plain = [Example(row, ids[:3], 1) for row in range(40)]
    assert {text.prompt_length for text in _with_beginnings(plain, tokenizer, seed=3)} == {1, 2}
    assert _with_beginnings([Example(1, ids[:1], 1)] * 2, tokenizer, seed=3)[1].prompt_length == 1
