"""A chat template of a tokenizer's own that differs from the format is said once, where a model is asked or trained."""

from types import SimpleNamespace

import pytest

import topeng
from bytes_tokenizer import bytes_tokenizer
from tiny_families import FAMILIES, tiny_checkpoint
from topeng.models import load_tokenizer
from topeng.recipe import parse
from topeng.run.checks import check
from topeng.text import templates
from topeng.text.formats import FORMATS, LLADA
from topeng.text.templates import template_difference

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + LLADA.template


@pytest.fixture(autouse=True)
def nothing_said_before():
    templates._warn.cache_clear()


def with_default_system(form):
    """As Qwen's: a system message where a conversation has none."""
    first = "[{'role': 'system', 'content': 'Be good.'}] + messages"
    told = "{% set told = messages if messages[0].role == 'system' else " + first + " %}"
    return told + form.template.replace("{% for message in messages %}", "{% for message in told %}")


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.mask)
def test_a_format_s_own_template_is_no_difference_and_another_is_quoted(form):
    made = bytes_tokenizer(list(form.special.values()), eos_token=form.eos, bos_token=form.bos)
    assert template_difference(made, form) is None  # it has no template
    made.chat_template = form.template
    assert template_difference(made, form) is None
    made.chat_template = with_default_system(form)
    found = template_difference(made, form)
    assert found.startswith("For a question the template writes ")
    assert "Be good." in found and "QUESTION" in found.partition("where Topeng writes")[2]


def test_the_difference_is_where_the_first_is_and_a_template_may_refuse(tokenizer):
    made = bytes_tokenizer(list(LLADA.special.values()), eos_token=LLADA.eos, bos_token=LLADA.bos)
    made.chat_template = LLADA.template.replace("{% if add_generation_prompt %}", "{% if false %}")
    assert template_difference(made, LLADA) == (
        "For a question the template writes …'ON<|eot_id|>', "
        "where Topeng writes …'ON<|eot_id|><|start_header_id|>assistant<|end_he'…."
    )
    made.chat_template = NO_SYSTEM
    assert template_difference(made, LLADA).startswith(
        "For a question after a system message the template fails (TemplateError no system role), where Topeng writes '"
    )


@pytest.mark.parametrize("name", ["llada-tiny", *(name for name in FAMILIES if name in ("dream-tiny", "llada2-tiny"))])
def test_it_is_said_once_where_a_checkpoint_is_loaded_to_be_asked_or_trained(name, with_tokenizer, tmp_path, caplog):
    folder = with_tokenizer(tiny_checkpoint(name, tmp_path))
    topeng.load(folder, device="cpu")
    assert not caplog.records
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = with_default_system(LLADA)
    tokenizer.save_pretrained(folder)
    for _ in range(2):
        topeng.load(folder, device="cpu")
    (record,) = caplog.records
    said = record.getMessage()
    assert record.levelname == "WARNING" and said.startswith(f"{folder}: the tokenizer's own chat template differs")
    assert "Topeng uses for training, answers and scores (Llama 3.1's headers). For a question" in said
    caplog.clear()
    templates._warn.cache_clear()
    recipe = parse({"base": {"model": str(folder)}, "text": {"max_length": 64}, "generate": {"max_new_tokens": 32}})
    check(recipe, [SimpleNamespace(name="train/lora")])
    assert [record.getMessage() for record in caplog.records] == [said]
