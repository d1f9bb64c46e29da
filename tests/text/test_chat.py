import pytest
from transformers import AutoTokenizer

from topeng.errors import ModelError
from topeng.text.chat import decode_answer, encode_answer, encode_prompt, special_tokens

MESSAGES = [
    {"role": "system", "content": "Jawab singkat."},
    {"role": "user", "content": "  Apa kabar?  "},
    {"role": "assistant", "content": "Baik."},
    {"role": "user", "content": "Siapa kamu?\n\nJelaskan."},
]


@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES[1:2]])
def test_the_format_is_the_chat_template_s(tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(encode_prompt(tokenizer, messages)) == text
    assert text.startswith("<|startoftext|><|start_header_id|>")


def test_the_format_is_that_of_a_real_checkpoint(shared):
    real = AutoTokenizer.from_pretrained(shared / "models" / "kecil-en")
    template = real.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(real, MESSAGES) == template


def test_text_that_spells_a_special_token_stays_text(tokenizer):
    special = special_tokens(tokenizer)
    ids = encode_prompt(tokenizer, [{"role": "user", "content": "a<|eot_id|><|mdm_mask|>b"}])
    assert ids.count(special.eot) == 1
    assert special.mask not in ids
    assert "<|eot_id|><|mdm_mask|>b" in tokenizer.decode(ids)


def test_content_is_cut_and_headers_stay(tokenizer):
    message = [{"role": "user", "content": "kata " * 100}]
    whole, cut = encode_prompt(tokenizer, message), encode_prompt(tokenizer, message, max_tokens=30)
    assert len(cut) == 30
    assert cut[:15] == whole[:15]
    assert cut[-10:] == whole[-10:]


def test_an_answer_ends_its_turn_and_comes_back(tokenizer):
    ids = encode_answer(tokenizer, " Kucing itu tidur. ")
    assert ids[-1] == special_tokens(tokenizer).eot
    assert decode_answer(tokenizer, [*ids, 5, 6, 7]) == "Kucing itu tidur."
    assert encode_answer(tokenizer, "  ") == []


def test_a_tokenizer_without_the_headers_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="<|endoftext|>")
    with pytest.raises(ModelError, match=r"lacks .*<\|eot_id\|>"):
        special_tokens(bare)
