"""Checks that fail at once instead of after hours, if a recipe names something that is not available."""

from collections.abc import Sequence

from topeng.errors import ModelError
from topeng.recipe import Recipe
from topeng.run.folder import Stage


def check(recipe: Recipe, planned: Sequence[Stage]) -> None:
    """Checks what the stages will need, without loading anything large. Warns about a chat template that is not used.

    Raises:
        ModelError: the base cannot be reached, its family is unknown or cannot be converted, it does not fit its
            tokenizer or the chat format, or its context is shorter than the recipe's rows.
        CorpusError: a file of rows does not exist.
        AdapterError, RunError: a method or a logger is not available here.
    """
    kinds = {stage.name.partition("/")[0] for stage in planned}
    if "source" in kinds:
        _check_files(recipe)
    if kinds - {"corpus", "source"}:  # reading rows needs no model
        _check_base(recipe)
    if kinds & {"base", "train", "sweep"}:
        from topeng.adapt.train import check_training

        check_training(recipe.adapter.methods, recipe.base.device, recipe.train.report_to)


def _check_files(recipe: Recipe) -> None:
    """Checks the files of the source language, which are read after the corpus. Addresses are not checked here."""
    local = [name for name in recipe.source.files if "://" not in name]
    if not (local or recipe.source.held_out):
        return
    from topeng.corpus.readers import read_ordinals, resolve

    resolve(local, "source.files")
    if recipe.source.held_out:
        read_ordinals(recipe.source.held_out)


def _check_base(recipe: Recipe) -> None:
    base = recipe.base
    name = base.model or base.convert or base.tiny.start
    if name is None:
        return
    from topeng.models import load_config, load_tokenizer
    from topeng.text.chat import check_tokens
    from topeng.text.templates import tell_template

    if base.convert:
        from topeng.adapt.convert import converted_config

        config = converted_config(base.convert, base.shift, base.revision)
    else:
        config = load_config(name, base.revision)
        tokenizer = load_tokenizer(name, base.revision)
        check_tokens(name, config, tokenizer)
        tell_template(name, tokenizer)
    if recipe.context > config.max_position_embeddings:
        raise ModelError(
            f"text.max_length = {recipe.text.max_length} and generate.max_new_tokens = "
            f"{recipe.generate.max_new_tokens} add up to {recipe.context}, but the context of {name} is "
            f"{config.max_position_embeddings} tokens. Lower one of them."
        )
