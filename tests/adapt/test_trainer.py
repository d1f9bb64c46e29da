from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from adapt.conftest import Killed
from topeng.adapt import methods
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress, compile_layers, held_out_loss, last_checkpoint
from topeng.adapt.usage import SHARES
from topeng.diffusion import copies, sft_loss, training_noise
from topeng.errors import TopengError
from topeng.models import find_device, load_model
from topeng.text.batches import collate, step_rows
from topeng.text.tokens import Example

MASK, EOS = 500, 501
OPTIONS = AdapterOptions(rank=2, alpha=4)
BATCHING = Batching(batch_rows=4, batch_tokens=32, noise="independent", fill=False)


def examples(count, start=0):
    random = np.random.default_rng(0)
    return [Example(start + row, random.integers(0, 500, 6 + row % 9).tolist(), 2 + row % 3) for row in range(count)]


def trainer(
    golden,
    folder,
    method="lora",
    batching=BATCHING,
    rows=20,
    steps=8,
    kill_at=None,
    restore=None,
    rate=1e-2,
    dtype=None,
    **arguments,
):
    def tell(step, steps, logs):
        if step == kill_at:
            raise Killed

    base = load_model(golden, dtype)
    if restore:
        adapted = methods.restore_adapter(base, method, OPTIONS, 0, restore)
    else:
        adapted = methods.add_adapter(base, method, OPTIONS, 0)
    args = TrainingArguments(
        output_dir=str(folder),
        seed=5,
        max_steps=steps,
        learning_rate=rate,
        logging_steps=1,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        eval_on_start=restore is None,
        use_cpu=find_device().type == "cpu",
        remove_unused_columns=False,
        label_names=[],
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    optimizer = methods.create_optimizer(adapted, method, OPTIONS, rate, 0.0)
    trainer = DiffusionTrainer(adapted, args, examples(rows), examples(4, 100), batching, optimizer)
    trainer.add_callback(Progress(tell))
    return trainer


def losses(trained):
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


@pytest.mark.parametrize("noise", ["independent", "stratified", "complementary"])
def test_the_logged_loss_is_the_oracle_s_over_the_global_batch(golden, tmp_path, noise):
    one = trainer(golden, tmp_path, batching=Batching(20, 20 * 14, noise, fill=True), steps=1)
    one.train()
    rows = [examples(20)[row] for row in step_rows(20, 20 // copies(noise), 5, 0) for _ in range(copies(noise))]
    batch = collate(rows, EOS, fill=True)
    masked, p = training_noise(noise, batch["response_mask"], 5, 0, batch["row_ids"], torch.arange(20), 20)
    with torch.no_grad():
        noisy = batch["input_ids"].masked_fill(masked, MASK)
        logits = load_model(golden)(input_ids=noisy.to(find_device())).logits.cpu()
    oracle = sft_loss(logits, batch["input_ids"], masked, p, batch["response_length"])
    assert losses(one)[0] == pytest.approx(oracle.item(), rel=1e-4)


def test_an_epoch_has_each_row_once(golden, tmp_path):
    one = trainer(golden, tmp_path, rows=20, steps=5)
    seen, real = [], one.get_batch_samples

    def remembered(*arguments):
        batch, count = real(*arguments)
        seen.append(sorted(example.row_id for example in batch[0]))
        return batch, count

    one.get_batch_samples = remembered
    one.train()
    assert [len(rows) for rows in seen] == [4] * 5 and sorted(row for rows in seen for row in rows) == list(range(20))


def test_each_step_has_noise_of_its_own(golden, tmp_path):
    still = trainer(golden, tmp_path, rows=4, steps=3, rate=1e-12)
    still.train()
    assert len(set(losses(still))) == 3


@pytest.mark.parametrize("noise", ["independent", "stratified", "complementary"])
def test_how_a_step_is_cut_changes_nothing(golden, tmp_path, noise):
    """Five rows in one forward pass, and in several unequal ones: the same losses and the same adapter.

    In fp64, where another order of summation is far below what a wrong weight would change.
    """
    batching = Batching(batch_rows=10, batch_tokens=10_000, noise=noise, fill=False)
    whole = trainer(golden, tmp_path / "a", batching=batching, rows=5, steps=4, dtype=torch.float64)
    parts = trainer(
        golden, tmp_path / "b", batching=replace(batching, batch_tokens=20), rows=5, steps=4, dtype=torch.float64
    )
    for each in (whole, parts):
        each.model.double()
        each.train()
    np.testing.assert_allclose(losses(whole), losses(parts), rtol=1e-6)  # logged in fp32
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-9, rtol=0)


def test_gradient_checkpointing_changes_nothing(golden, tmp_path):
    plain, recomputed = trainer(golden, tmp_path / "a", steps=2), trainer(golden, tmp_path / "b", steps=2)
    recomputed.args.activation_checkpointing = True
    for each in (plain, recomputed):
        each.train()
    assert [each.model.is_activation_checkpointing for each in (plain, recomputed)] == [False, True]
    assert losses(plain) == pytest.approx(losses(recomputed), rel=1e-5)
    assert losses(plain)[0] != losses(plain)[1]


@pytest.mark.parametrize("method", ["lora", "pissa", "nara"])
def test_a_killed_training_ends_as_an_undisturbed_one(golden, tmp_path, method):
    calm = trainer(golden, tmp_path / "calm", method)
    calm.model.save_pretrained(str(tmp_path / "initial"))
    calm.train()
    killed = trainer(golden, tmp_path / "killed", method, kill_at=5)
    with pytest.raises(Killed):
        killed.train()
    checkpoint = last_checkpoint(tmp_path / "killed")
    assert checkpoint.name == "checkpoint-4"
    again = trainer(golden, tmp_path / "killed", method, restore=tmp_path / "initial")
    again.train(resume_from_checkpoint=str(checkpoint))
    for left, right in zip(calm.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=0)
    keep = ("step", "loss", "eval_loss", *SHARES)
    histories = [
        [
            {key: entry[key] for key in keep if key in entry}
            for entry in each.state.log_history
            if "loss" in entry or "eval_loss" in entry
        ]
        for each in (calm, again)
    ]
    assert histories[0] == histories[1]


def test_a_training_killed_after_its_last_step_takes_no_more(golden, tmp_path):
    done = trainer(golden, tmp_path)
    done.model.save_pretrained(str(tmp_path / "initial"))
    done.fit(None)
    again = trainer(golden, tmp_path, restore=tmp_path / "initial")
    again.fit(last_checkpoint(tmp_path))
    assert again.state.global_step == 8
    assert again.state.log_history == done.state.log_history[: len(again.state.log_history)]
    assert any("eval_loss" in entry and entry["step"] == 8 for entry in again.state.log_history)
    for left, right in zip(done.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-7, rtol=0)


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    assert last_checkpoint(tmp_path) is None


def test_held_out_loss_is_comparable(golden, tmp_path):
    rows = examples(6)
    first = held_out_loss(load_model(golden), rows)
    assert np.array_equal(first, held_out_loss(load_model(golden), rows))
    np.testing.assert_allclose(held_out_loss(load_model(golden), rows[:2]), first[:2], rtol=1e-5)
    assert abs(first.mean() - np.log(512)) < 3


def test_a_loss_that_is_not_finite_names_its_rows(golden, tmp_path):
    broken = trainer(golden, tmp_path, rate=1e-2)
    with torch.no_grad():
        methods.adapter_layers(broken.model)[-1].lora_A["default"].weight.fill_(float("nan"))
    with pytest.raises(TopengError, match=r"at step 1 the loss is nan, rows \[\d+, \d+\]"):
        broken.train()


@pytest.mark.parametrize("fill", [True, False])
def test_what_passes_are_spent_on_is_logged(golden, tmp_path, fill):
    """All rows in one pass: rows of 6 to 14 tokens, padded to 14; `fill` makes the padding part of the response."""
    one = trainer(golden, tmp_path, batching=Batching(18, 1000, "independent", fill), rows=18, steps=1)
    one.train()
    logged = next(entry for entry in one.state.log_history if "loss" in entry)
    own = sum(len(example.input_ids) for example in examples(18))
    response = sum(example.response_length for example in examples(18))
    assert logged["padding_share"] == pytest.approx(1 - own / (18 * 14))
    assert logged["end_share"] == pytest.approx((18 * 14 - own) / (response + 18 * 14 - own) if fill else 0)
    assert (0 < logged["end_loss_share"] < 1) == fill
    assert logged["tokens_per_second"] > logged["answer_tokens_per_second"] > 0
    assert logged["peak_memory_bytes"] > 2**20


@pytest.mark.slow
def test_compiled_layers_give_the_same_losses(golden, tmp_path):
    plain, compiled = trainer(golden, tmp_path / "a", steps=3), trainer(golden, tmp_path / "b", steps=3)
    compile_layers(compiled.model, tmp_path / "compiled")
    for each in (plain, compiled):
        each.train()
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)


def test_what_torch_cannot_compile_is_told_in_one_line(golden, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no compiler\nand how to find out why")

    monkeypatch.setattr(torch, "compile", lambda _: fail)
    with pytest.raises(TopengError, match=r"torch cannot compile here \(no compiler\)\. Install"):
        compile_layers(load_model(golden), tmp_path / "compiled")


@pytest.mark.slow
@pytest.mark.skipif(find_device().type == "cuda", reason="a GPU's kernels are compiled by Triton")
def test_a_missing_compiler_is_named(golden, tmp_path, monkeypatch):
    torch.compiler.reset()  # or what a test before has compiled is at hand
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/such/compiler",))
    with pytest.raises(TopengError, match="torch cannot compile here"):
        compile_layers(trainer(golden, tmp_path).model, tmp_path / "compiled")


@pytest.mark.parametrize("method", ["lora", "dora", "nara"])
def test_an_adapter_s_input_is_cast_once(golden, tmp_path, method):
    """A bf16 base under autocast: the same gradients whether peft casts first or not, and less is kept for them."""
    kept = {}

    def step(name, cast_twice):
        in_one_pass = replace(BATCHING, batch_tokens=1000)
        one = trainer(golden, tmp_path / name, method, in_one_pass, dtype="bfloat16", bf16=True)
        model, one.optimizer = one.accelerator.prepare(one.model, one.optimizer)
        one.current_gradient_accumulation_steps = 1
        sizes, seen = 0, set()

        def pack(tensor):
            nonlocal sizes
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                sizes += tensor.nbytes
            return tensor

        with pytest.MonkeyPatch.context() as patch, torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
            if cast_twice:
                patch.setattr("topeng.adapt.trainer.autocast_inputs", lambda *_: nullcontext())
            one.training_step(model, examples(4))
        kept[name] = sizes
        return [weight.grad for weight in model.parameters() if weight.requires_grad]

    for once, twice in zip(step("once", False), step("twice", True), strict=True):
        assert torch.equal(once, twice)
    share = {"lora": 0.95, "nara": 0.97}  # beside so small a base NaRA's network counts
    assert method == "dora" or kept["once"] < share[method] * kept["twice"]


def test_half_precision_is_near(golden, tmp_path):
    """Autocast: the adapter's weights and its gradient stay in fp32."""
    full, half = trainer(golden, tmp_path / "a", steps=2), trainer(golden, tmp_path / "b", steps=2, bf16=True)
    for each in (full, half):
        each.train()
    assert losses(half) == pytest.approx(losses(full), rel=0.02)
    assert losses(half) != losses(full)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())
