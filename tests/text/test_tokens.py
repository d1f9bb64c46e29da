import pytest
import torch

from topeng.text.batches import collate
from topeng.text.chat import special_tokens
from topeng.text.tokens import NO_ANSWER, NO_ROOM, Example, tokenize_row, tokenize_rows

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
    examples, dropped = tokenize_rows(tokenizer, rows, max_length=16)
    assert not examples
    assert dropped == {NO_ANSWER: 1, NO_ROOM: 2}


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
