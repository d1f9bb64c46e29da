import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from topeng.errors import ModelError
from topeng.models import LLaDAConfig, LLaDAModelLM, find_device, fingerprint, is_base, load_model, masked_lm


@pytest.fixture(scope="module")
def answers(golden):
    return load_file(golden / "golden.safetensors", device=str(find_device()))


def random_ids(rows, columns):
    return torch.randint(6, 400, (rows, columns), generator=torch.Generator().manual_seed(0)).to(find_device())


@torch.no_grad()
def test_logits_are_the_reference_s(golden, answers):
    model = load_model(golden)
    logits = model(input_ids=answers["input_ids"]).logits
    torch.testing.assert_close(logits, answers["logits"], atol=1e-4, rtol=0)
    seen = answers["attention_mask"].bool()
    padded = model(input_ids=answers["input_ids"], attention_mask=answers["attention_mask"]).logits
    torch.testing.assert_close(padded[seen], answers["logits_masked"][seen], atol=1e-4, rtol=0)


def test_keys_and_values_are_kept_where_that_is_asked_for_alone(model):
    """Half a MiB a token at LLaDA-8B's shape, in every pass of a likelihood."""
    ids = random_ids(1, 4)
    assert model(input_ids=ids).past_key_values is None
    assert model(input_ids=ids, use_cache=True).past_key_values.get_seq_length() == 4


@torch.no_grad()
def test_bfloat16_is_near_the_reference(golden, answers):
    """Eight bits of a number are kept: 2^-8 of it is lost at each rounding, and some tens of roundings add up."""
    logits = load_model(golden, "bfloat16")(input_ids=answers["input_ids"]).logits.float()
    off = (logits - answers["logits"]).norm() / answers["logits"].norm()
    assert 2**-12 < off < 2**-5
    clear = answers["logits"].topk(2).values.diff().squeeze(-1).abs() > 0.1 * answers["logits"].std()
    assert torch.equal(logits.argmax(dim=-1)[clear], answers["logits"].argmax(dim=-1)[clear])


def test_a_saved_checkpoint_is_the_official_one(golden, tmp_path):
    load_model(golden).save_pretrained(tmp_path)
    official, saved = load_file(golden / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert official.keys() == saved.keys()
    assert all(torch.equal(official[name], saved[name]) for name in official)
    wanted, found = (json.loads((folder / "config.json").read_text()) for folder in (golden, tmp_path))
    wanted.pop("transformers_version")
    assert {name: found.get(name) for name in wanted} == wanted
    assert set(found) - set(wanted) <= {"bos_token_id", "transformers_version"}


def test_the_default_shape_is_llada_8b_s():
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_015_581_184
    assert model.config.head_dim == 128
    assert model.config.rope_parameters["rope_theta"] == 500000.0


def test_the_head_runs_on_the_positions_asked_for(model):
    input_ids = random_ids(2, 12)
    where = (torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.4).to(input_ids.device)
    with torch.no_grad():
        full = model(input_ids=input_ids).logits
        torch.testing.assert_close(model(input_ids=input_ids, head_positions=where).logits, full[where])


@pytest.mark.parametrize("chunk", [1, 400 * 3, 2**24])
def test_the_chunked_loss_and_its_gradient_are_the_full_one_s(model, monkeypatch, chunk):
    monkeypatch.setattr(masked_lm, "CHUNK_ELEMENTS", chunk)
    input_ids, generator = random_ids(3, 10), torch.Generator().manual_seed(1)
    where = (torch.rand(3, 10, generator=generator) < 0.5).to(input_ids.device)
    weights = torch.rand(int(where.sum()), generator=generator).to(input_ids.device)
    logits = model(input_ids=input_ids).logits[where]
    full = (torch.nn.functional.cross_entropy(logits, input_ids[where], reduction="none") * weights).sum()
    chunked = model(input_ids=input_ids, head_positions=where, targets=input_ids[where], weights=weights)
    torch.testing.assert_close(chunked.loss, full)
    weight = model.model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(torch.autograd.grad(chunked.loss, weight), torch.autograd.grad(full, weight))


def test_a_trainable_head_has_the_full_loss_s_gradient(model, monkeypatch):
    monkeypatch.setattr(masked_lm, "CHUNK_ELEMENTS", 400 * 3)
    input_ids = random_ids(2, 9)
    where = torch.ones_like(input_ids, dtype=torch.bool)
    full = torch.nn.functional.cross_entropy(model(input_ids=input_ids).logits.flatten(0, 1), input_ids.flatten())
    weights = torch.full((18,), 1 / 18, device=input_ids.device)
    chunked = model(input_ids=input_ids, head_positions=where, targets=input_ids[where], weights=weights).loss
    head = model.get_output_embeddings().weight
    torch.testing.assert_close(torch.autograd.grad(chunked, head), torch.autograd.grad(full, head))


class Casts(TorchDispatchMode):
    """Counts the copies of a weight in another precision."""

    def __init__(self, weight):
        super().__init__()
        self.weight, self.count = weight, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and args[0].shape == self.weight.shape
        return func(*args, **(kwargs or {}))


def test_autocast_casts_the_head_once_for_all_chunks(model, monkeypatch):
    head = model.lm_head.requires_grad_(False)
    monkeypatch.setattr(masked_lm, "CHUNK_ELEMENTS", head.vocab_size)
    hidden = torch.randn(6, head.in_features, device=head.weight.device, requires_grad=True)
    targets, weights = torch.arange(6, device=hidden.device), torch.ones(6, device=hidden.device)
    with torch.autocast(hidden.device.type, torch.bfloat16), Casts(head.weight) as casts:
        head(hidden, targets, weights)[0].backward()
    assert casts.count == 1 and hidden.grad.abs().sum() > 0


def test_a_gradient_is_scaled_by_what_the_loss_is_scaled_by(model):
    input_ids = torch.tensor([[7, 8, 9]], device=find_device())
    where = torch.ones_like(input_ids, dtype=torch.bool)
    loss = model(input_ids=input_ids, head_positions=where, targets=input_ids[0]).loss
    weight = model.model.norm.weight
    (plain,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (scaled,) = torch.autograd.grad(-3 * loss, weight)
    torch.testing.assert_close(scaled, -3 * plain)


def test_no_masked_position_is_no_loss_with_a_gradient(model):
    input_ids = torch.full((1, 4), 9, device=find_device())
    nowhere = torch.zeros_like(input_ids, dtype=torch.bool)
    output = model(input_ids=input_ids, head_positions=nowhere, targets=input_ids[nowhere])
    output.loss.backward()
    assert output.loss.item() == 0


def test_the_end_token_s_embedding_learns(model):
    model(input_ids=torch.tensor([[1, 7, 1]], device=find_device())).logits.sum().backward()
    assert model.get_input_embeddings().weight.grad[1].abs().sum() > 0


@pytest.fixture
def copied(golden, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(golden, folder)
    return folder


def rewrite_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_named(copied):
    rewrite_weights(copied, lambda weights: weights.pop("model.transformer.ln_f.weight"))
    with pytest.raises(ModelError, match=r"1 missing, the first is model\.norm\.weight"):
        load_model(copied)


def test_misshapen_weights_are_named(copied):
    rewrite_weights(copied, lambda weights: weights.update({"model.transformer.ln_f.weight": torch.ones(3)}))
    with pytest.raises(ModelError, match=r"of another shape, the first is model\.norm\.weight"):
        load_model(copied)


def test_weights_that_a_gpu_has_no_room_for_are_not_called_damaged(golden, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB.\nMore of it")

    monkeypatch.setattr(LLaDAModelLM, "from_pretrained", full)
    with pytest.raises(
        ModelError, match=r"do not fit into the free memory of .* \(CUDA out of memory.*MiB\)\. Use a lower"
    ) as told:
        load_model(golden)
    assert "\n" not in str(told.value)


def test_an_option_of_another_network_is_refused(copied):
    config = json.loads((copied / "config.json").read_text()) | {"alibi": True}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="alibi = True"):
        load_model(copied)


def test_another_family_is_refused(copied):
    (copied / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError, match="model_type = 'gpt2', which is not supported"):
        load_model(copied)


def test_a_folder_that_is_not_there():
    with pytest.raises(ModelError, match=r"there is no checkpoint folder \./nowhere"):
        load_model("./nowhere")


def test_a_model_id_is_not_found_without_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"cannot download config.json of nobody/nothing .*Copy the model to a folder"):
        load_model("nobody/nothing")


@torch.no_grad()
def test_a_padded_vocabulary_is_loaded_never_answered_with_and_written_back(copied, golden, answers, tmp_path):
    def pad(weights):
        for name in ("model.transformer.wte.weight", "model.transformer.ff_out.weight"):
            rows = torch.full((64, weights[name].shape[1]), 9.0)
            weights[name] = torch.cat([weights[name], rows])

    rewrite_weights(copied, pad)
    config = json.loads((copied / "config.json").read_text())
    config["embedding_size"] = config["vocab_size"] + 64
    (copied / "config.json").write_text(json.dumps(config))
    padded, plain, ids = load_model(copied), load_model(golden), answers["input_ids"]
    torch.testing.assert_close(padded(input_ids=ids).logits, plain(input_ids=ids).logits)
    targets = {"head_positions": ids >= 0, "targets": ids.flatten()}
    torch.testing.assert_close(padded(input_ids=ids, **targets).token_nll, plain(input_ids=ids, **targets).token_nll)
    padded.save_pretrained(tmp_path / "saved")
    given, saved = (load_file(folder / "model.safetensors") for folder in (copied, tmp_path / "saved"))
    assert given.keys() == saved.keys() and all(torch.equal(given[name], saved[name]) for name in given)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["embedding_size"] == config["embedding_size"]
    (copied / "config.json").write_text(json.dumps(config | {"embedding_size": config["vocab_size"] - 1}))
    with pytest.raises(ModelError, match="must be at least vocab_size"):
        load_model(copied)


@pytest.mark.parametrize("trained", ["float32", "bfloat16"])
@pytest.mark.parametrize("used", ["float32", "bfloat16", "float16"])
def test_a_base_is_recognised_in_every_precision(golden, trained, used):
    known = fingerprint(load_model(golden, trained))
    assert is_base(load_model(golden, used), known)
    other = load_model(golden, used)
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(1.01)
    assert not is_base(other, known)
