"""What can't be done with adapters of mixtures of experts is refused by name; tests of families show what can."""

import peft
import pytest
import torch

from tiny_families import GOLDEN
from topeng.adapt.export import export
from topeng.errors import AdapterError, ExportError, ModelError
from topeng.models import load_model

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden checkpoints are not in a clone")


def adapter_on(folder, path, **options):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=4, init_lora_weights=False, **options)
    peft.get_peft_model(load_model(folder, device="cpu"), config).save_pretrained(str(path))
    return path


@pytest.mark.parametrize("name", ["llada-moe-tiny", "llada2-tiny"])
def test_an_adapter_that_changes_the_experts_is_not_merged_without_them(name, with_tokenizer, tmp_path):
    folder = with_tokenizer(GOLDEN / name)
    adapter = adapter_on(
        folder, tmp_path / "adapter", target_modules=["q_proj"], target_parameters=["experts.down_proj"]
    )
    with pytest.raises(
        AdapterError, match=r"changes model\.layers\.\d\.mlp\.experts, of which a checkpoint has a weight"
    ):
        export(adapter, tmp_path / "merged", base=folder)
    assert not (tmp_path / "merged").exists()


def test_the_official_code_of_llada2_has_no_module_for_queries_alone(with_tokenizer, tmp_path):
    folder = with_tokenizer(GOLDEN / "llada2-tiny")
    adapter = adapter_on(folder, tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(ExportError, match=r"has model\.layers\.0\.attention\.query_key_value\.weight in one"):
        export(adapter, tmp_path / "official", "adapter", base=folder, names="official")
    export(adapter, tmp_path / "native", "adapter", base=folder)
    dense = adapter_on(folder, tmp_path / "dense", target_modules=["o_proj"])
    export(dense, tmp_path / "official", "adapter", base=folder, names="official")


def test_a_gguf_file_with_an_adapter_goes_by_the_merged_folder(with_tokenizer, tmp_path):
    folder = with_tokenizer(GOLDEN / "llada-moe-tiny")
    adapter = adapter_on(folder, tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(ModelError, match="Use --format merged, and then --format gguf on the folder that it writes"):
        export(adapter, tmp_path / "file", "gguf", base=folder)
    export(adapter, tmp_path / "merged", base=folder)
    export(tmp_path / "merged", tmp_path / "file", "gguf")
    assert list((tmp_path / "file").glob("*.gguf"))
