"""The part of a recipe that each stage gets, from which its signature, fingerprint and comparison conditions follow.

A slice is a frozen dataclass of values and groups of options. A stage gets nothing else of the recipe, so that it
cannot depend on anything that its fingerprint omits.
"""

from dataclasses import replace

from topeng import kecil
from topeng.adapt.settings import (
    METHODS,
    Adapting,
    Converting,
    LoraOptions,
    ModelOptions,
    ObjectiveName,
    Pretraining,
    ScheduleOptions,
    StepOptions,
    Training,
)
from topeng.corpus import settings
from topeng.corpus.settings import (
    CorpusOptions,
    DrawOptions,
    Embedding,
    EmbedOptions,
    Ingesting,
    Seeded,
    Sourcing,
)
from topeng.evaluate.settings import Answering, AnswerOptions, ScoreOptions, Scoring
from topeng.options import narrow
from topeng.recipe import Recipe
from topeng.report.settings import PageOptions
from topeng.text.settings import AskOptions


def ingesting(recipe: Recipe) -> Ingesting:
    return settings.ingesting(recipe.corpus, recipe.seed)


def drawing(recipe: Recipe) -> Seeded[DrawOptions]:
    return Seeded(narrow(recipe.corpus, DrawOptions), recipe.seed)


def embedding(recipe: Recipe) -> Embedding:
    return Embedding(narrow(recipe.corpus, EmbedOptions), recipe.seed, recipe.base.device)


def selecting(recipe: Recipe) -> Seeded[CorpusOptions]:
    """The whole section, because the data card lists it."""
    return Seeded(recipe.corpus, recipe.seed)


def source(recipe: Recipe) -> Sourcing:
    """The rows of the source. For `kecil` the default is the rows that it was not trained on."""
    options = recipe.source
    if recipe.base.model == kecil.NAME and not options.files:
        options = replace(options, files=[str(kecil.HELD_OUT)])
    return Sourcing(options, recipe.seed, recipe.corpus.benchmarks)


def page(recipe: Recipe) -> PageOptions:
    return narrow(recipe.report, PageOptions)


def converting(recipe: Recipe) -> Converting | None:
    """The conversion, or None if the recipe has none."""
    base = recipe.base
    return Converting(base.convert, base.revision, base.shift) if base.convert else None


def pretraining(recipe: Recipe) -> Pretraining:
    return Pretraining(
        seed=recipe.seed,
        tiny=recipe.base.tiny,
        text=recipe.text,
        block_length=_block_length(recipe, recipe.train.objectives[0]),
        context=recipe.context,
        train=narrow(recipe.train, StepOptions),
        fill=_fill(recipe),
        converted=recipe.base.convert is not None,
        objective=recipe.train.objectives[0],
        revision=recipe.base.revision if recipe.base.tiny.start else None,
        device=recipe.base.device,
    )


def adapting(recipe: Recipe, method: str, seed: int | None = None, objective: ObjectiveName | None = None) -> Adapting:
    """One training, by default with the recipe's seed and first objective, without options of other methods."""
    objective = objective or recipe.train.objectives[0]
    adapter = narrow(recipe.adapter, LoraOptions)
    if not METHODS[method].rate_of_b:
        adapter = replace(adapter, loraplus_lr_ratio=1.0)
    return Adapting(
        method=method,
        seed=recipe.seed if seed is None else seed,
        base=narrow(recipe.base, ModelOptions),
        text=recipe.text,
        block_length=_block_length(recipe, objective),
        adapter=None if METHODS[method].full else adapter,
        train=narrow(recipe.train, ScheduleOptions),
        learning_rate=recipe.train.rate(method),
        fill=_fill(recipe),
        objective=objective,
    )


def scoring(recipe: Recipe) -> Scoring:
    return Scoring(
        base=narrow(recipe.base, ModelOptions),
        seed=recipe.seed,
        text=narrow(recipe.text, AskOptions),
        evaluate=narrow(recipe.evaluate, ScoreOptions),
    )


def answering(recipe: Recipe, training: Training | None) -> Answering:
    return Answering(
        base=narrow(recipe.base, ModelOptions),
        seed=recipe.seed,
        text=narrow(recipe.text, AskOptions),
        evaluate=narrow(recipe.evaluate, AnswerOptions),
        generate=recipe.generate,
        languages=recipe.corpus.languages,
        training=adapting(recipe, training.method, training.seed, training.objective) if training else None,
    )


def _block_length(recipe: Recipe, objective: str) -> int | None:
    """The block length of decoding, if end tokens fill a block or the objective is `block`, or else None."""
    return recipe.generate.block_length if recipe.text.eos == "block" or objective == "block" else None


def _fill(recipe: Recipe) -> int | None:
    """The size of a forward pass, if end tokens fill it and are trained on. It then affects results."""
    return recipe.train.batch_tokens if recipe.text.eos == "fill" else None
