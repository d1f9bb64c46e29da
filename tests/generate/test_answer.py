import time
from dataclasses import replace

import pytest

from topeng.errors import GenerationError, TextError
from topeng.generate import Settings
from topeng.generate import answer as answer_module
from topeng.generate.answer import Prompt, answers, encode_template, to_messages
from topeng.generate.row import end_tokens
from topeng.text.chat import decode_answer, encode_prompt
from topeng.text.rows import read_prompts

SETTINGS = Settings(max_new_tokens=8, steps=4, block_length=8)
QUESTIONS = ["Apa?", "Di mana kucing itu tidur, di kursi kayu atau di lantai?", "Ya?"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_depends_on_no_batch(model, tokenizer, temperature):
    settings = Settings(max_new_tokens=8, steps=4, block_length=8, temperature=temperature)
    together = answers(model, tokenizer, QUESTIONS, settings)
    alone = answers(model, tokenizer, QUESTIONS, settings, batch_tokens=1)
    assert {answer.index: answer.token_ids for answer in together} == {
        answer.index: answer.token_ids for answer in alone
    }


def test_an_answer_says_how_it_came_to_be(model, tokenizer):
    found = {answer.index: answer for answer in answers(model, tokenizer, QUESTIONS, SETTINGS, skip=[1])}
    assert sorted(found) == [0, 2]
    answer = found[0]
    assert answer.prompt == "Apa?" and answer.forward_passes == 4 and answer.seconds > 0
    assert answer.answer == decode_answer(tokenizer, answer.token_ids)
    assert len(answer.token_ids) == len(answer.committed_at) == len(answer.confidence)
    assert answer.tokens_per_forward_pass == len(answer.token_ids) / 4


def test_an_answer_says_whether_it_ended(model, tokenizer):
    def ended(**settings):
        found = answers(model, tokenizer, QUESTIONS[:1], replace(SETTINGS, **settings))
        return [(answer.ended, len(answer.token_ids)) for answer in found]

    assert ended(min_new_tokens=8) == [(False, 8)]
    all_else = sorted(set(range(model.config.vocab_size)) - set(end_tokens(model).tolist()))
    assert ended(suppressed_tokens=all_else) == [(True, 0)]


def test_a_template_has_its_gaps_filled(model, tokenizer):
    (answer,) = answers(model, tokenizer, ["Apa?"], SETTINGS, template="Kucing itu {3} di {2}.")
    assert answer.answer.startswith("Kucing itu") and answer.answer.endswith(".")
    given = [step == 0 for step in answer.committed_at]
    assert given.count(False) == 5 and answer.token_ids[0] == encode_template(tokenizer, "Kucing {1}", 2)[0]


def test_a_template_without_a_gap_is_refused(tokenizer):
    with pytest.raises(GenerationError, match=r"has no gap. Write \{5\}"):
        encode_template(tokenizer, "Kucing itu tidur.", 2)


def test_a_question_beyond_the_context_is_refused_unless_it_comes_cut(model, tokenizer):
    long = ["kucing " * 400]
    with pytest.raises(GenerationError, match="exceed the model's context of 256"):
        list(answers(model, tokenizer, long, SETTINGS))
    cut = [encode_prompt(tokenizer, to_messages(long[0]), 64)]
    assert (
        len(
            list(
                answers(
                    model, tokenizer, [Prompt(text, tokens) for text, tokens in zip(long, cut, strict=True)], SETTINGS
                )
            )
        )
        == 1
    )


TALK = [
    {"role": "user", "content": "Siapa?"},
    {"role": "assistant", "content": "Kucing."},
    {"role": "user", "content": "Di mana?"},
]


def test_a_conversation_is_answered_in_view_of_all_of_it(model, tokenizer):
    system = [{"role": "system", "content": "Jawab."}]
    asked = [TALK, [*TALK, {"role": "assistant", "content": "Di kursi."}], TALK[2:], "Di mana?", system + TALK]
    canvases, real = [], answer_module.prompt_canvas

    def watched(model, prompts, *rest):
        canvases.extend(prompts)
        return real(model, prompts, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_module, "prompt_canvas", watched)
        found = list(answers(model, tokenizer, asked, SETTINGS))
        with_system = list(
            answers(model, tokenizer, [to_messages(one, "Ringkas.") for one in (TALK, system + TALK)], SETTINGS)
        )
    seen = [canvases[[answer.index for answer in found].index(place)] for place in range(5)]
    assert seen[0] == encode_prompt(tokenizer, TALK) == seen[1]
    assert seen[2] == seen[3] == encode_prompt(tokenizer, TALK[2:])
    texts = {answer.index: answer.prompt for answer in found}
    assert texts[0] == "Siapa?\n\nKucing.\n\nDi mana?" and texts[3] == "Di mana?"
    own = {answer.index: ids for answer, ids in zip(with_system, canvases[5:], strict=True)}
    assert own[0] == encode_prompt(tokenizer, [{"role": "system", "content": "Ringkas."}, *TALK])
    assert own[1] == encode_prompt(tokenizer, system + TALK)  # its own system message stays


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ([], "has no message"),
        ([{"role": "user"}], "has a `role` and a `content`"),
        ([{"role": "user", "content": 3}], "has a `role` and a `content`"),
        (["Apa?"], "is not a message"),
        ("setengah \ud83d", "an unpaired surrogate"),
    ],
)
def test_what_is_no_question_is_refused(model, tokenizer, question, message):
    with pytest.raises(TextError, match=message):
        list(answers(model, tokenizer, ["Apa?", question], SETTINGS))


def test_a_mask_that_is_spelled_out_is_text(model, tokenizer):
    assert len(list(answers(model, tokenizer, ["<|mdm_mask|>"], SETTINGS))) == 1


def test_prompts_are_read_from_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.txt").write_text("Apa?\n\nSiapa?\n")
    (tmp_path / "a.jsonl").write_text('{"input": "Apa?", "output": "Itu."}\n{"input": "Siapa?"}\n')
    pq.write_table(pa.table({"input": ["Apa?", "Siapa?"]}), tmp_path / "a.parquet")
    for name in ("a.txt", "a.jsonl", "a.parquet"):
        assert read_prompts(tmp_path / name) == ["Apa?", "Siapa?"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n", "contains no prompt"),
        ("a.jsonl", '{"q": 1}\n', "no column input"),
        ("a.jsonl", "Apa?\n", "a.jsonl: line 1 is not a JSON object"),
        ("a.jsonl", '{"input": "Apa?"}\n{"input": ["Apa?"]}\n', "a.jsonl: line 2: "),
        ("a.csv", 'input\n"Apa?"\n""\n', "a.csv: line 3: the prompt is empty"),
    ],
)
def test_files_without_prompts_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(GenerationError, match=message):
        read_prompts(tmp_path / name)


def test_seconds_of_a_batch_are_shared_by_its_answers(shared_model, tokenizer):
    settings = Settings(max_new_tokens=16, block_length=4)
    started = time.perf_counter()
    together = list(answers(shared_model, tokenizer, ["Apa?", "Siapa?", "Di mana?"], settings))
    passed = time.perf_counter() - started
    assert 0 < sum(answer.seconds for answer in together) <= passed
    assert len({round(answer.seconds, 3) for answer in together}) == 1  # all of them took part in each pass
