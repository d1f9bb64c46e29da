"""What is asked of a machine's GPUs; that it has some is made up here."""

import pytest

from topeng.adapt.train import check_training
from topeng.errors import RunError
from topeng.recipe import parse


@pytest.mark.parametrize(("device", "refused"), [("cuda:1", True), ("cuda:0", False), ("cuda", False), (None, False)])
def test_a_training_on_another_gpu_than_the_first_is_refused(monkeypatch, device, refused):
    """transformers' arguments would move the model to the first, whatever stands in the recipe."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    recipe = parse({"base": {"device": device}, "train": {"report_to": []}})
    if not refused:
        return check_training(recipe.adapter.methods, recipe.base.device, recipe.train.report_to)
    with pytest.raises(RunError, match=r"base\.device = cuda:1, .*CUDA_VISIBLE_DEVICES=1"):
        check_training(recipe.adapter.methods, recipe.base.device, recipe.train.report_to)
