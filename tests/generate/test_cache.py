import pytest
import torch

from topeng.generate import Settings
from topeng.generate.cache import Passes
from topeng.generate.canvas import infilling_canvas, pad_left
from topeng.generate.decode import Decoder
from topeng.generate.row import Row, Voice
from topeng.models.attention import attend

MASK, EOS = 2, 1


def rows(model, lengths=(20, 15, 18), **settings):
    """Rows of like settings whose current blocks stand at different places, with some tokens known behind them."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(3, 400, (length,), generator=generator).tolist() for length in lengths]
    masks = [MASK] * 6 + [33, 44] + [MASK] * 4
    canvases = [infilling_canvas(*pad_left([text + masks], EOS), len(text) - 4, MASK) for text in texts]
    how = Settings(max_new_tokens=8, block_length=8, **settings)
    return [Row(canvas, 0, Voice(model), how, place) for place, canvas in enumerate(canvases)]


def views(some):
    return [view for row in some for view in row.views]


def whole_pass(model, row):
    """Logits of its active positions, by the model alone on the row alone."""
    width = len(row.visible)
    ids, visible = row.tokens[None, :width].to(model.device), row.visible[None].to(model.device)
    logits = model(input_ids=ids, attention_mask=visible).logits[0]
    return logits[row.block][row.active().to(model.device)]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("kind", ["none", "prefix", "dual"])
@torch.no_grad()
def test_kept_keys_and_values_give_the_logits_of_a_whole_pass(model, kind, window, shifted):
    attend(model, None, shifted)
    some, passes = rows(model, cache=kind, window=window), Passes()
    for now in (some, some, some, some[::2], some[::2]):  # one leaves
        for row, logits in zip(now, passes.logits(model, views(now)), strict=True):
            torch.testing.assert_close(logits, whole_pass(model, row), atol=1e-5, rtol=0)
    joined = rows(model, (9,), cache=kind, window=window) + some[1:]
    for _ in range(2):
        for row, logits in zip(joined, passes.logits(model, views(joined)), strict=True):
            torch.testing.assert_close(logits, whole_pass(model, row), atol=1e-5, rtol=0)


def test_only_what_is_not_kept_is_computed_and_only_masks_go_to_the_head(model):
    seen, heads = [], []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    model.lm_head.register_forward_hook(lambda _, __, logits: heads.append(len(logits.flatten(0, -2))))
    for kind, interval in (("none", None), ("prefix", None), ("dual", None), ("dual", 2)):
        (row,), passes = rows(model, (14,), cache=kind, refresh_interval=interval), Passes()
        for _ in range(3):
            passes.logits(model, views([row]))
    assert seen == [26, 26, 26, 26, 16, 16, 26, 8, 8, 26, 8, 26]
    assert set(heads) == {4}  # four places of the block are given, four are masked


def test_what_was_committed_since_is_told_from_what_was_kept(model):
    """A cache that is not computed anew goes stale, and the pass that does it is whole again."""
    (row,), passes = rows(model, (14,), cache="prefix", refresh_interval=2), Passes()
    with torch.no_grad():
        first = passes.logits(model, views([row]))[0]
        row.commit(torch.tensor([4]), torch.tensor([50]), torch.tensor([0.5]))
        stale, fresh = passes.logits(model, views([row]))[0], whole_pass(model, row)
        assert not torch.allclose(stale, fresh, atol=1e-5) and len(first) == len(stale) + 1
        torch.testing.assert_close(passes.logits(model, views([row]))[0], fresh, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("block", "shifted"), [(1, True), (4, False), (4, True), (5, True), (64, False)])
@torch.no_grad()
def test_where_a_model_looks_back_only_finished_blocks_are_kept_and_exact(model, block, shifted):
    """Every pass of a generation, of rows at different places: the logits of a pass over the whole row."""
    attend(model, block, shifted)
    some, passes, seen = rows(model, cfg_scale=0.0), Passes(), []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    while some:
        expected = [whole_pass(model, row) for row in some]
        seen.clear()
        for row, logits, wanted in zip(some, passes.logits(model, views(some)), expected, strict=True):
            torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)
            confidence, tokens = logits.max(dim=-1)
            best = int(confidence.argmax())
            where = row.active().nonzero().squeeze(1)[best : best + 1]
            row.commit(where, tokens[best : best + 1], confidence[best : best + 1])
        some = [row for row in some if not row.done]
    assert max(seen) <= 2 * block + 1  # the last passes: a block, and at most the one that was finished before it


def test_a_model_that_predicts_the_next_token_reads_one_token_a_pass(model):
    """An autoregressive model with its cache: as fast as one can be."""
    attend(model, 1, True)
    some, seen = rows(model, (14,)), []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    decoder = Decoder()
    decoder.join(some[0])
    while decoder.rows:
        decoder.step()
    assert seen == [14, *[1] * 5, 3, *[1] * 3]  # the prompt, then each token; two that are given are read with theirs
