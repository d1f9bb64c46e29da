"""Topeng: masked diffusion language models, adapted to a language with parameter-efficient fine-tuning."""

from pathlib import Path
from typing import Any

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(
    model: str | Path,
    adapter: str | Path | None = None,
    dtype: Any = None,
    device: Any = None,
    revision: str | None = None,
) -> tuple[Any, Any]:
    """Loads a model in evaluation mode, and its tokenizer.

    Args:
        model: a checkpoint folder in its family's official layout, a model id on the Hub, or `kecil`.
        adapter: a folder written by `topeng train` or peft; a whole model (of the method `full`) replaces the base.
        dtype: precision of the weights; by default that of the checkpoint.
        device: by default a GPU if there is one.
        revision: commit of the model on the Hub.

    Raises:
        ModelError: the checkpoint or its tokenizer cannot be loaded.
        AdapterError: the adapter does not fit the model.
    """
    from topeng.models import is_checkpoint, load_config, load_model, load_tokenizer
    from topeng.text.chat import check_tokens
    from topeng.text.templates import tell_template

    if adapter is not None and is_checkpoint(adapter):
        model, adapter, revision = adapter, None, None
    config, tokenizer = load_config(model, revision), load_tokenizer(model, revision)
    special = check_tokens(str(model), config, tokenizer)
    tell_template(str(model), tokenizer)
    loaded = load_model(model, dtype, device, revision)
    loaded.generation_config.eos_token_id = [special.eos, special.eot]
    if adapter is not None:
        from topeng.adapt.loading import load_adapter

        loaded = load_adapter(loaded, adapter)
    return loaded, tokenizer
