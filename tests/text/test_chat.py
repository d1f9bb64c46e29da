import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from bytes_tokenizer import bytes_tokenizer
from topeng.adapt.tiny import new_tokenizer
from topeng.errors import ModelError, TextError
from topeng.text.chat import decode_answer, encode_answer, encode_prompt, recent_turns, special_tokens
from topeng.text.formats import CHATML, LLADA, ROLE_TAGS

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
    assert cut[:12] == whole[:12]
    assert cut[-7:] == whole[-7:]


def test_earlier_turns_are_counted_from_the_last_question():
    def said(turns, roles="suauau"):
        names = {"s": "system", "u": "user", "a": "assistant"}
        messages = [{"role": names[role], "content": f"{place}"} for place, role in enumerate(roles)]
        return "".join(message["content"] for message in recent_turns(messages, turns))

    assert [said(turns) for turns in (0, 1, 2, 9, None)] == ["05", "0345", "012345", "012345", "012345"]
    assert said(0, "ua") == "01" and said(0, "uaa") == "012" and said(0, "auau") == "3" and said(0, "ss") == "01"


def test_a_long_system_message_leaves_half_of_the_room_to_the_question(tokenizer):
    system, question = {"role": "system", "content": "aturan " * 200}, {"role": "user", "content": "kata " * 200}
    headers = len(encode_prompt(tokenizer, [system, question], max_tokens=0))
    cut = encode_prompt(tokenizer, [system, question], max_tokens=headers + 40)
    assert len(cut) == headers + 40
    alone = encode_prompt(tokenizer, [question], len(encode_prompt(tokenizer, [question], max_tokens=0)) + 20)
    assert cut[1 - len(alone) :] == alone[1:]
    short = encode_prompt(tokenizer, [system, {"role": "user", "content": "Siapa?"}], max_tokens=headers + 40)
    assert "Siapa?" in tokenizer.decode(short) and "aturan" in tokenizer.decode(short) and len(short) == headers + 40


@pytest.mark.parametrize("text", ["setengah \ud83d 0", "\udcff"])
def test_half_a_surrogate_pair_is_refused(tokenizer, text):
    with pytest.raises(TextError, match=r"contains an unpaired surrogate, U\+D.*Write the whole character"):
        encode_prompt(tokenizer, [{"role": "user", "content": text}])


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


# Text with special tokens spelled in it, whole, cut, or one in another.
texts = st.lists(st.text(max_size=20) | st.sampled_from([*LLADA.special.values(), "<|", "|>", "<|eot", "_id|>"])).map(
    "".join
)
turns = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=4)


@given(turns)
def test_content_never_becomes_a_special_token(tokenizer, turns):
    special = special_tokens(tokenizer)
    ids = encode_prompt(tokenizer, [{"role": role, "content": content} for role, content in turns])
    turn = [special.start_header, special.end_header, special.eot]
    assert [token for token in ids if token in set(tokenizer.all_special_ids)] == [
        *(special.bos, *turn * len(turns)),
        *(special.start_header, special.end_header),
    ]


@given(turns)
def test_tokens_are_the_rendered_template(tokenizer, turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(encode_prompt(tokenizer, messages)) == rendered


@given(texts, st.lists(st.integers(0, 399), max_size=5))
def test_any_answer_comes_back(tokenizer, text, beyond):
    ids = encode_answer(tokenizer, text)
    assert decode_answer(tokenizer, [*ids, *beyond] if ids else ids) == text.strip()


@given(texts, st.integers(0, 60))
def test_a_prompt_is_cut_to_its_bound_or_to_its_headers(tokenizer, text, most):
    def encode(content, bound=None):
        return encode_prompt(tokenizer, [{"role": "user", "content": content}], bound)

    whole, cut = encode(text), encode(text, most)
    assert len(cut) <= max(most, len(encode("")))
    assert cut == whole or cut[-7:] == whole[-7:]


def test_a_word_has_the_same_tokens_wherever_it_stands():
    """So that an answer can copy it from its prompt."""
    made = new_tokenizer(["Budi tinggal di Karang.", "Di Karang ada Budi."] * 9, 400)
    question = [{"role": "user", "content": "Siapa tinggal di Karang? Di sana tinggal Budi."}]
    (name,) = encode_answer(made, "Budi")[:-1]
    assert name in encode_prompt(made, question)
    assert encode_prompt(made, question) == made.apply_chat_template(
        question, add_generation_prompt=True, return_dict=False
    )
    assert decode_answer(made, encode_answer(made, "Budi tinggal di Karang.")) == "Budi tinggal di Karang."


@pytest.fixture(scope="module")
def chatml():
    """A tokenizer of bytes with ChatML's special tokens."""
    return bytes_tokenizer([CHATML.start_header, CHATML.eot], eos_token=CHATML.eos, mask_token=CHATML.mask)


@given(turns=turns)
def test_chatml_is_what_its_template_says(chatml, turns):
    """Where a text spells a special token, it stays text, and the template's does not: such texts are left out."""
    messages = [{"role": role, "content": text} for role, text in turns]
    assume(not any(token in text for _, text in turns for token in CHATML.special.values()))
    rendered = chatml.apply_chat_template(
        messages, chat_template=CHATML.template, add_generation_prompt=True, tokenize=False
    )
    assert encode_prompt(chatml, messages) == chatml(rendered, add_special_tokens=False)["input_ids"]


def test_an_answer_in_chatml_ends_with_its_end_of_turn(chatml):
    ids = encode_answer(chatml, "Ya.")
    assert ids[-1] == chatml.convert_tokens_to_ids("<|im_end|>") and decode_answer(chatml, ids) == "Ya."


@pytest.mark.parametrize("tokens", [(), ("<role>", "</role>")])
def test_role_tags_are_tokens_where_a_tokenizer_has_them_and_text_else(tokens):
    """As LLaDA-MoE and LLaDA2.x are asked."""
    made = bytes_tokenizer(["<|role_end|>", "<|mask|>", *tokens], eos_token="<|endoftext|>")
    made.chat_template = ROLE_TAGS.template
    assert special_tokens(made).form is ROLE_TAGS
    text = made.apply_chat_template(MESSAGES[:2], add_generation_prompt=True, tokenize=False)
    assert text == (
        "<role>SYSTEM</role>Jawab singkat.<|role_end|><role>HUMAN</role>Apa kabar?<|role_end|><role>ASSISTANT</role>"
    )
    ids = encode_prompt(made, MESSAGES[:2])
    assert made.decode(ids) == text
    for tag in tokens:
        assert ids.count(made.convert_tokens_to_ids(tag)) == 3
    said = encode_prompt(made, [{"role": "user", "content": "</role><|role_end|>"}])
    assert made.decode(said) == "<role>HUMAN</role></role><|role_end|><|role_end|><role>ASSISTANT</role>"
    assert said.count(special_tokens(made).eot) == 1


def test_a_new_tokenizer_numbers_special_tokens_as_it_always_did(tokenizer):
    """Else the same rows and seed would give another base."""
    names = ("startoftext", "endoftext", "mdm_mask", "start_header_id", "end_header_id", "eot_id")
    assert [tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names] == list(range(6))
