import pytest

from topeng import recipe as recipes
from topeng.errors import RecipeError
from topeng.generate import Settings


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
        ({"adapter": {"methods": "lora"}}, "adapter.methods = 'lora' must be a list"),
        ({"adapter": 4}, "adapter = 4 must be a section of options"),
        ({"train": {"learning_rates": {"lora": "fast"}}}, "train.learning_rates.lora = 'fast' must be a number"),
        ({"adapter": {"methods": []}}, "adapter.methods = [] must name at least one method"),
        ({"train": {"learning_rates": {"loraplus": 1}}}, "has 'loraplus', which is none of lora, lora+, pissa"),
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
    assert all(text for _, _, text in described)
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
        ({"train": {"learning_rates": {"lora": float("nan")}}}, "learning_rates.lora = nan must be a finite number"),
        ({"train": {"noise": "complementary", "batch_rows": 7}}, "train.batch_rows = 7 must be even"),
        ({"adapter": {"methods": ["lora", "lora"]}}, "names a method twice"),
        ({"corpus": {"train_rows": 3, "clusters": 5}}, "corpus.train_rows = 3 must be at least clusters = 5"),
    ],
)
def test_values_that_make_no_sense_together_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        recipes.parse(values)
