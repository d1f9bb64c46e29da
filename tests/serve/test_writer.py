import pytest

pytest.importorskip("fastapi")

from topeng.serve.answering import texts_of
from topeng.serve.writer import Writer
from topeng.text.chat import encode_text

ENDS = frozenset({1})


def writer(tokenizer, **values):
    return Writer(tokenizer, ENDS, **values)


def readings(tokenizer, text, order, **values):
    """What is told while the tokens of a text are committed in an order."""
    ids = encode_text(tokenizer, text)
    own, masked = writer(tokenizer, **values), [True] * len(ids)
    for place in order(len(ids)):
        masked[place] = False
        yield own.read(ids, masked)


@pytest.mark.parametrize("stops", [(), ("tidur",), (". ", "di kursi"), ("kayu. Kucing",)])
@pytest.mark.parametrize(
    "order", [range, lambda n: reversed(range(n)), lambda n: sorted(range(n), key=lambda i: i * 7 % n)]
)
def test_what_was_told_is_never_taken_back_and_the_end_is_the_whole(tokenizer, stops, order):
    text = " Kucing itu tidur di kursi kayu. Kucing — itu 🐈 tidur.  "
    told = ""
    for spoken in readings(tokenizer, text, order, stops=stops):
        assert spoken.text.startswith(told), (told, spoken.text)
        told = spoken.text
        assert not any(stop in told for stop in stops)
        if spoken.reason:
            break
    found = [text.strip().find(stop) for stop in stops if stop in text]
    assert told == (text.strip()[: min(found)] if found else text.strip())
    assert spoken.reason == ("stop" if found else "length")


def test_half_a_character_and_half_a_stop_text_are_held_back(tokenizer):
    ids = encode_text(tokenizer, "a🐈")
    masked = [False] * (len(ids) - 1) + [True]
    assert writer(tokenizer).read(ids, masked).text == "a"
    ids = encode_text(tokenizer, "Kucing itu tidur")
    masked = [False] * (len(ids) - 1) + [True]
    known = tokenizer.decode(ids[:-1])
    assert writer(tokenizer, stops=(known[-3:] + "x",)).read(ids, masked).text == known[:-3].rstrip()


def test_an_end_token_ends_it_and_what_follows_is_not_read(tokenizer):
    ids = [*encode_text(tokenizer, "Ya."), 1, *encode_text(tokenizer, "Bukan.")]
    masked = [False] * (len(ids) - 1) + [True]
    spoken = writer(tokenizer).read(ids, masked)
    assert (spoken.text, spoken.reason, spoken.tokens) == ("Ya.", "stop", ids.index(1))


def test_raw_text_keeps_its_white_space_and_gaps_are_whole_without_an_end(tokenizer):
    ids = encode_text(tokenizer, " itu tidur ")
    spoken = writer(tokenizer, strip=False, gaps=True, within=len(ids)).read([*ids, 5], [False] * len(ids) + [True])
    assert (spoken.text, spoken.reason) == (" itu tidur ", "stop")


def test_a_character_of_several_tokens_is_shown_once_when_all_of_them_are_there(tokenizer):
    ids = encode_text(tokenizer, "a🐈b")
    assert len(ids) > 3
    assert "".join(texts_of(tokenizer, ids, [False] * len(ids))) == "a🐈b"
    masked = [place == 2 for place in range(len(ids))]
    shown = texts_of(tokenizer, ids, masked)
    assert shown[0] == "a" and shown[-1] == "b" and [text is None for text in shown] == masked
