import dataclasses
import types
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topeng import recipe as recipes
from topeng.errors import RecipeError
from topeng.generate import Settings
from topeng.options import Options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter": {"rnak": 8}}, "unknown option 'adapter.rnak': did you mean 'adapter.rank'?"),
        ({"adaptr": {}}, "unknown option 'adaptr': did you mean 'adapter'?"),
        ({"rank": 8}, "unknown option 'rank': did you mean 'adapter.rank'?"),
        ({"adapter": {"rank": "big"}}, "adapter.rank = 'big' must be a whole number"),
        ({"adapter": {"rank": 0}}, "adapter.rank = 0 must be at least 1"),
        ({"adapter": {"rank": True}}, "adapter.rank = True must be a whole number"),
        ({"adapter": {"methods": ["pisa"]}}, "did you mean 'pissa'?"),
        ({"adapter": {"methods": "lora"}}, "adapter.methods = 'lora' must be a list, such as [lora]"),
        ({"adapter": 4}, "adapter = 4 must be a section of options"),
        ({"train": {"learning_rate": {"lora": "fast"}}}, "train.learning_rate.lora = 'fast' must be a number"),
        ({"adapter": {"methods": []}}, "adapter.methods = [] must name at least one method"),
        ({"train": {"learning_rate": {"loraplus": 1}}}, "has 'loraplus', which is none of lora, lora+, pissa"),
        ({"corpus": {"benchmarks": ["a.csv"], "profile": "paper"}}, "no effect under corpus.profile = paper"),
        ({"seed": 2**32}, "seed = 4294967296 must be below 4294967296"),
        ({"generate": {"steps": 7}}, "generate.steps = 7 must be a multiple of 4"),
        ({"generate": {"block_length": 48}}, "generate.max_new_tokens = 128 must be a multiple of block_length = 48"),
    ],
)
def test_a_bad_option_is_named_with_its_rule(values, message):
    with pytest.raises(RecipeError) as error:
        recipes.parse(values)
    assert message in str(error.value)


def test_overrides_win_over_the_file_and_yaml_numbers_are_numbers(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("adapter: {rank: 8}\ntrain: {learning_rate: 1e-4}\n")
    recipe = recipes.load(path, {"adapter.rank": "32", "corpus.files": "[a.parquet, b.parquet]", "base.model": "null"})
    assert recipe.adapter.rank == 32
    assert recipe.train.learning_rate == 1e-4
    assert recipe.corpus.files == ["a.parquet", "b.parquet"]
    assert recipe.base.model is None


def test_a_dumped_recipe_is_the_same_recipe(tmp_path):
    recipe = recipes.parse(
        {"seed": 7, "adapter": {"methods": ["pissa"]}, "generate": {"max_new_tokens": 64, "steps": 8}}
    )
    (tmp_path / "recipe.yaml").write_text(recipes.dump(recipe))
    assert recipes.load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "seed: 1\nseed: 2\n"])
def test_a_file_that_is_no_recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    if not text:
        assert recipes.load(path) == recipes.Recipe()
        return
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        recipes.load(path)


def test_a_missing_file_is_named():
    with pytest.raises(RecipeError, match=r"cannot read the recipe nowhere\.yaml"):
        recipes.load("nowhere.yaml")


def test_every_option_has_help_and_no_name_stands_twice():
    described = recipes.describe()
    assert all(text[0].isupper() and text.endswith(".") and not text.startswith("Of ") for _, _, text in described)
    assert len({name for name, _, _ in described}) == len(described)


def test_settings_hold_in_a_python_call_too():
    with pytest.raises(ValueError, match="steps = 5 must be a multiple of 4"):
        Settings(max_new_tokens=128, steps=5, block_length=32)


@pytest.mark.parametrize("name", ["tiny.yaml", "small.yaml", "llada-8b-indonesia.yaml"])
def test_the_shipped_recipes_are_valid(name):
    from importlib import resources

    recipes.load(str(resources.files("topeng") / "recipes" / name))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"epochs": float("inf")}}, "train.epochs = inf must be a finite number"),
        ({"train": {"learning_rate": {"lora": float("nan")}}}, "learning_rate.lora = nan must be a finite number"),
        ({"train": {"noise": "complementary", "batch_rows": 7}}, "train.batch_rows = 7 must be even"),
        ({"adapter": {"methods": ["lora", "lora"]}}, "names a method twice"),
        ({"corpus": {"train_rows": 3, "clusters": 5}}, "corpus.train_rows = 3 must be at least clusters = 5"),
    ],
)
def test_values_that_make_no_sense_together_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        recipes.parse(values)


@pytest.mark.parametrize(
    "address",
    [
        "hf://ana:hf_rahasia@datasets/indonlp/cendol",
        "https://ana@example.org/a.csv",
        "https://example.org/a.csv?download=1&access_token=rahasia",
        "s3://bucket/a.csv?X-Amz-Signature=rahasia",
    ],
)
def test_a_recipe_holds_no_password_and_says_so_without_it(address):
    with pytest.raises(RecipeError, match="contains a password or a token") as error:
        recipes.parse({"corpus": {"files": [address]}})
    assert "rahasia" not in str(error.value)


@pytest.mark.parametrize("address", ["hf://datasets/indonlp/cendol@0a1b/**", "https://example.org/a@b.csv?page=2"])
def test_an_address_without_a_password_is_an_address(address):
    assert recipes.parse({"corpus": {"files": [address]}}).corpus.files == [address]


def options_of(cls: type[Options] = recipes.Recipe, prefix: str = "") -> dict[str, Any]:
    """The kind of each option by its name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind = get_type_hints(cls)[field.name]
        group = isinstance(kind, type) and issubclass(kind, Options)
        found |= options_of(kind, f"{prefix}{field.name}.") if group else {f"{prefix}{field.name}": kind}
    return found


def values_of(kind: Any) -> st.SearchStrategy:
    """Values that an option of this kind may have, though a rule may refuse them."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values_of(arguments[1]), max_size=3)
    plain = {str: st.text(), int: st.integers(), float: st.floats(), bool: st.booleans(), types.NoneType: st.none()}
    return plain[kind]


OPTIONS = options_of()
SECTIONS = sorted({name.split(".")[0] for name in OPTIONS})
NAMES = st.sampled_from(sorted({name.rpartition(".")[2] for name in OPTIONS}))
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=3)
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(scalars, inner), max_leaves=4)


def recipe_or_none(values: dict) -> recipes.Recipe | None:
    """None where it is refused: any other exception fails the test."""
    with suppress(RecipeError):
        return recipes.parse(values)
    return None


@given(st.sampled_from(sorted(OPTIONS)).flatmap(lambda name: st.tuples(st.just(name), values_of(OPTIONS[name]))))
def test_what_a_recipe_accepts_is_dumped_and_loaded_as_the_same(tmp_path_factory, option):
    *sections, last = option[0].split(".")
    values = {last: option[1]}
    for section in reversed(sections):
        values = {section: values}
    if (recipe := recipe_or_none(values)) is not None:
        path = tmp_path_factory.getbasetemp() / "dumped.yaml"
        path.write_text(recipes.dump(recipe), encoding="utf-8")
        assert recipes.load(path) == recipe


@given(st.dictionaries(st.sampled_from(SECTIONS), st.dictionaries(NAMES | scalars, anything, max_size=3) | anything))
def test_whatever_values_are_given_are_a_recipe_or_its_error(values):
    recipe_or_none(values)


@given(st.text() | st.binary())
def test_whatever_a_file_holds_is_a_recipe_or_its_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with suppress(RecipeError):
        recipes.load(path)


@given(st.text() | st.sampled_from(sorted(OPTIONS)), st.text())
def test_whatever_is_overridden_is_a_recipe_or_its_error(name, text):
    values: dict = {}
    with suppress(RecipeError):
        recipes.set_option(values, name, text)
    recipe_or_none(values)
