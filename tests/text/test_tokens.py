import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from topeng.text.batches import collate
from topeng.text.chat import encode_prompt, special_tokens
from topeng.text.tokens import (
    NO_ANSWER,
    NO_QUESTION,
    NO_ROOM,
    Example,
    count_cuts,
    fit_row,
    history,
    tokenize_row,
    tokenize_rows,
)

ROW = {"row_id": 3, "input": "Di mana kucing itu tidur?", "output": "Di kursi kayu."}


def test_a_row_is_its_prompt_and_its_response(tokenizer):
    example = tokenize_row(tokenizer, ROW, max_length=512)
    response = example.input_ids[example.prompt_length :]
    assert example.row_id == 3
    assert tokenizer.decode(response) == "Di kursi kayu.<|eot_id|>"
    assert tokenizer.decode(example.input_ids[: example.prompt_length]).endswith("assistant<|end_header_id|>\n\n")


def test_eos_policies(tokenizer):
    plain = tokenize_row(tokenizer, ROW, 512).response_length
    eos = special_tokens(tokenizer).eos
    one = tokenize_row(tokenizer, ROW, 512, eos="one")
    assert one.response_length == plain + 1 and one.input_ids[-1] == eos
    block = tokenize_row(tokenizer, ROW, 512, eos="block", block_length=32)
    assert block.response_length % 32 == 0 and block.response_length - plain < 32
    assert tokenize_row(tokenizer, ROW, 512, eos="fill").response_length == plain  # the batch fills


def test_the_prompt_is_cut_before_the_answer(tokenizer):
    whole = tokenize_row(tokenizer, ROW, 512)
    cut = tokenize_row(tokenizer, ROW, len(whole.input_ids) - 5)
    assert cut.response_length == whole.response_length
    assert cut.prompt_length == whole.prompt_length - 5


def test_a_row_without_an_answer_leaves_with_the_reason(tokenizer):
    rows = [ROW, {**ROW, "output": "  "}, {**ROW, "output": "x"}]
    examples, dropped = tokenize_rows(tokenizer, rows, max_length=12)
    assert not examples
    assert dropped == {NO_ANSWER: 1, NO_ROOM: 2}


def test_an_answer_as_long_as_max_length_leaves_the_question_its_share(tokenizer):
    question, answer = "Di mana kucing itu tidur? " * 20, "Kucing itu tidur di kursi kayu. " * 200
    for share in (0.25, 0.5):
        example = tokenize_row(tokenizer, {"row_id": 0, "input": question, "output": answer}, 256, min_share=share)
        headers = len(encode_prompt(tokenizer, [{"role": "user", "content": ""}], max_tokens=0))
        assert example.prompt_length == headers + int(share * (256 - headers))
        assert len(example.input_ids) == 256 and example.cut_prompt and example.cut_answer
    short = tokenize_row(tokenizer, {"row_id": 0, "input": "Di mana?", "output": answer}, 256)
    assert "Di mana?" in tokenizer.decode(short.input_ids) and not short.cut_prompt and short.cut_answer


lengths = st.integers(0, 150)


@given(lengths, lengths, st.integers(40, 200), st.floats(0, 0.5))
def test_what_is_cut_keeps_its_share_and_what_fits_is_whole(tokenizer, question, answer, max_length, share):
    messages = [{"role": "user", "content": "a " * question}]
    wanted = [9] * answer
    whole, headers = encode_prompt(tokenizer, messages), len(encode_prompt(tokenizer, messages, max_tokens=0))
    prompt, kept = fit_row(tokenizer, messages, wanted, max_length, share)
    assert len(prompt) + len(kept) <= max_length
    if len(whole) + answer <= max_length:
        assert (prompt, kept) == (whole, wanted)
    room = max_length - headers
    assert len(prompt) - headers >= min(len(whole) - headers, int(share * room))
    assert len(kept) >= min(answer, room - int(share * room))


def test_what_was_cut_is_counted(tokenizer):
    long = "kucing " * 100
    rows = [ROW, {**ROW, "input": long}, {**ROW, "output": long}, {**ROW, "input": long, "output": long}]
    examples, dropped = tokenize_rows(tokenizer, rows, 128)
    assert count_cuts(examples) == {"prompts": 2, "answers": 2} and not dropped


MESSAGES = [
    {"role": "system", "content": "Jawab singkat."},
    {"role": "user", "content": "Siapa?"},
    {"role": "assistant", "content": "Kucing."},
    {"role": "user", "content": "Di mana?"},
    {"role": "assistant", "content": "Di kursi."},
]
TALK = {"row_id": 5, "input": "Jawab singkat.\n\nSiapa?", "output": "Di kursi.", "messages": MESSAGES}


def test_each_answer_of_a_conversation_is_an_example_with_its_history(tokenizer):
    examples, _ = tokenize_rows(tokenizer, [TALK, ROW], 512, turns="all")
    assert [(example.row_id, example.turn) for example in examples] == [(5, 0), (5, 1), (3, 0)]
    last, first = examples[:2]
    assert last.input_ids[: last.prompt_length] == encode_prompt(tokenizer, MESSAGES[:4])
    assert tokenizer.decode(last.input_ids[last.prompt_length :]) == "Di kursi.<|eot_id|>"
    assert first.input_ids[: first.prompt_length] == encode_prompt(tokenizer, MESSAGES[:2])
    assert tokenizer.decode(first.input_ids[first.prompt_length :]) == "Kucing.<|eot_id|>"
    assert tokenize_rows(tokenizer, [TALK], 512)[0] == [last]
    assert history(TALK) == MESSAGES[:4]


def test_answers_of_one_row_have_noise_of_their_own(tokenizer):
    examples, _ = tokenize_rows(tokenizer, [TALK, ROW], 512, turns="all")
    ids = collate(examples, eos_token_id=1)["row_ids"].tolist()
    assert len(set(ids)) == 3 and ids[0] == 5 and ids[2] == 3  # a row's last answer has the row's


def test_an_answer_to_nothing_is_dropped(tokenizer):
    row = {
        **TALK,
        "messages": [{"role": "assistant", "content": "Halo."}, *MESSAGES[1:], {"role": "user", "content": "?"}],
    }
    examples, dropped = tokenize_rows(tokenizer, [row], 512, turns="all")
    assert [example.turn for example in examples] == [0, 1] and dropped == {NO_QUESTION: 1}
    assert history(row)[-1] == MESSAGES[3]
    assert tokenize_rows(tokenizer, [{**TALK, "messages": MESSAGES[:2]}], 512, turns="all")[1] == {NO_ANSWER: 1}


def test_the_oldest_turns_are_cut_first_and_the_system_message_stays(tokenizer):
    long = [MESSAGES[0], *MESSAGES[1:3] * 30, *MESSAGES[3:]]
    recent = [MESSAGES[0], *MESSAGES[1:3] * 2, *MESSAGES[3:]]
    room = len(tokenize_row(tokenizer, {**TALK, "messages": recent}, 512).input_ids)
    answer = len(encode_prompt(tokenizer, MESSAGES[2:3])) - len(encode_prompt(tokenizer, []))
    for spare in (0, answer):  # a turn is dropped with its answer
        cut = tokenize_row(tokenizer, {**TALK, "messages": long}, room + spare)
        assert cut.input_ids == tokenize_row(tokenizer, {**TALK, "messages": recent}, 512).input_ids
        assert cut.cut_prompt and not cut.cut_answer


@pytest.mark.parametrize("fill", [True, False])
def test_a_batch(fill):
    batch = collate([Example(7, [5, 6, 7, 8], 2), Example(9, [5, 6], 1)], eos_token_id=1, fill=fill)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 6, 1, 1]]
    assert batch["row_ids"].tolist() == [7, 9]
    if fill:  # the reference: padding is visible and supervised
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
        assert batch["response_mask"].tolist() == [[False, False, True, True], [False, True, True, True]]
        assert batch["response_length"].tolist() == [2, 3]
    else:
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
        assert batch["response_mask"].tolist() == [[False, False, True, True], [False, True, False, False]]
        assert batch["response_length"].tolist() == [2, 1]
    assert batch["response_mask"].dtype == torch.bool
