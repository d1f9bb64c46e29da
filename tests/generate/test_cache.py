import pytest
import torch

from topeng.generate.cache import BlockCache


@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_kept_keys_and_values_give_the_logits_of_a_whole_pass(model, kind):
    tokens = torch.randint(3, 400, (3, 30), generator=torch.Generator().manual_seed(0)).to(model.device)
    visible = torch.ones_like(tokens, dtype=torch.bool)
    visible[1, :5] = visible[2, :2] = False  # padding on the left
    visible[2, 28:] = False  # beyond a window
    block = slice(12, 20)
    whole = model(input_ids=tokens, attention_mask=visible).logits[:, block]
    cache = BlockCache(kind, None, block, 30, tokens.device)
    for _ in range(3):
        torch.testing.assert_close(cache.block_logits(model, tokens, visible), whole, atol=1e-5, rtol=0)
    rows = torch.tensor([True, False, True], device=model.device)
    cache.keep_rows(rows)
    kept = cache.block_logits(model, tokens[rows], visible[rows])
    torch.testing.assert_close(kept, whole[rows], atol=1e-5, rtol=0)


def test_only_what_is_not_kept_is_computed(model):
    seen = []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True)
    tokens = torch.zeros(1, 30, dtype=torch.long, device=model.device)
    visible = torch.ones_like(tokens, dtype=torch.bool)
    for kind, interval in (("none", None), ("prefix", None), ("dual", None), ("dual", 2)):
        cache = BlockCache(kind, interval, slice(12, 20), 30, tokens.device)
        for _ in range(3):
            cache.block_logits(model, tokens, visible)
    assert seen == [30, 30, 30, 30, 18, 18, 30, 8, 8, 30, 8, 30]
