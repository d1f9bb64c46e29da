"""OpenAI's own Python client, unchanged."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from topeng.text.chat import encode_prompt

openai = pytest.importorskip("openai")

ASK = [{"role": "user", "content": "Di mana kucing itu tidur?"}]


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def whole(client, model="base", **values):
    return client.chat.completions.create(model=model, messages=values.pop("messages", ASK), **values)


def text(client, model="base", **values):
    return whole(client, model, **values).choices[0].message.content


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["base", "one", "two"]
    assert client.models.retrieve("one").id == "one"


def test_an_answer_is_counted(client):
    answer = whole(client, max_tokens=12)
    assert answer.choices[0].finish_reason == "length" and answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert whole(client, max_completion_tokens=5).usage.completion_tokens == 5


@pytest.mark.parametrize("values", [{}, {"stop": ["i"]}, {"temperature": 1.0, "seed": 4}, {"n": 3, "temperature": 1.0}])
def test_a_stream_says_what_the_whole_answer_says(client, values):
    values = {"seed": 1, "max_tokens": 24, **values}
    expected = whole(client, **values)
    texts, reasons = {}, {}
    pieces = list(whole(client, stream=True, stream_options={"include_usage": True}, **values))
    for piece in pieces[:-1]:
        (choice,) = piece.choices
        assert choice.index not in reasons and piece.usage is None  # nothing follows the reason
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.message.content for choice in expected.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in expected.choices}
    assert pieces[-1].choices == [] and pieces[-1].usage == expected.usage
    assert len(texts) == values.get("n", 1)


def test_several_pieces_come_one_by_one(client):
    pieces = [piece.choices[0].delta.content for piece in whole(client, stream=True, max_tokens=24) if piece.choices]
    assert len([piece for piece in pieces if piece]) > 2


def test_a_stop_text_ends_the_answer_before_it(client):
    full = text(client, max_tokens=32)
    stop = full[len(full) // 2 : len(full) // 2 + 3]
    answer = whole(client, max_tokens=32, stop=stop).choices[0]
    assert answer.message.content == full[: full.index(stop)] and answer.finish_reason == "stop"


def test_adapters_answer_by_name_and_a_batch_changes_no_answer(client):
    asked = [
        {"model": model, "seed": seed, "temperature": temperature, "max_tokens": length}
        for model in ("base", "one", "two")
        for seed, temperature, length in ((1, 0.0, 8), (2, 1.0, 20), (3, 0.7, 32))
    ]
    alone = [text(client, **values) for values in asked]
    with ThreadPoolExecutor(9) as pool:
        together = list(pool.map(lambda values: text(client, **values), asked))
    assert together == alone and len(set(alone)) >= 8


def test_the_seed_is_honoured(client):
    first, again, other = (text(client, temperature=1.0, seed=seed) for seed in (7, 7, -8))
    assert first == again != other


def test_topengs_own_settings(client):
    words = {"fixed_words": "0:Ya, benar, 16:kucing"}  # a word may hold a comma
    fixed = text(client, max_tokens=24, extra_body={"topeng": words})
    assert fixed.startswith("Ya, benar") and " kucing" in fixed
    filled = text(client, extra_body={"topeng": {"template": "Kucing itu {3} di {2}."}})
    assert filled.startswith("Kucing itu") and filled.endswith(".")
    few = whole(client, extra_body={"topeng": {"steps": 2, "cfg_scale": 1.0, "policy": "margin"}})
    assert few.usage.completion_tokens <= 16


def test_turns_and_the_system_message_are_seen(client):
    system = [{"role": "system", "content": "Jawab."}, *ASK]
    turns = [*ASK, {"role": "assistant", "content": "Di kursi."}, {"role": "user", "content": "Kursi apa?"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}]
    counts = [whole(client, messages=messages).usage.prompt_tokens for messages in (ASK, system, turns, parts)]
    assert counts[0] == counts[3] < min(counts[1:3])


def test_log_probabilities_are_those_of_the_committing_step(client):
    choice = whole(client, logprobs=True, top_logprobs=2, max_tokens=8).choices[0]
    assert len(choice.logprobs.content) == 8
    for token in choice.logprobs.content:
        assert token.logprob <= 0 and token.top_logprobs[0].logprob == pytest.approx(token.logprob)  # greedy
    pieces = whole(client, logprobs=True, max_tokens=8, stream=True)
    told = [token.token for piece in pieces if (odds := piece.choices[0].logprobs) for token in odds.content]
    assert told == [token.token for token in choice.logprobs.content]


def test_text_is_completed_and_filled(client):
    answer = client.completions.create(model="base", prompt=["Kucing itu", "Ibu kota"], max_tokens=8, n=2, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.completion_tokens == 32 and len(answer.choices[0].logprobs.tokens) == 8
    asked = {"model": "base", "prompt": "Kucing itu", "max_tokens": 4, "echo": True, "logprobs": 1}
    said = client.completions.create(**asked).choices[0]
    streamed = [piece.choices[0].logprobs for piece in client.completions.create(**asked, stream=True)]
    assert next(at for odds in streamed if odds for at in odds.text_offset) == said.logprobs.text_offset[0] == 10
    echo = said.text
    assert echo.startswith("Kucing itu") and len(echo) > len("Kucing itu")
    between = client.completions.create(model="base", prompt="Kucing", suffix=" di kursi.", max_tokens=4)
    assert between.usage.completion_tokens == 4 and "di kursi" not in between.choices[0].text
    gaps = {"topeng": {"gaps": True}}
    filled = client.completions.create(model="base", prompt="Kucing {2} di {2}.", echo=True, extra_body=gaps)
    assert filled.choices[0].text.startswith("Kucing") and filled.choices[0].text.endswith(".")
    streamed = client.completions.create(model="base", prompt="Kucing itu", max_tokens=8, stream=True)
    expected = client.completions.create(model="base", prompt="Kucing itu", max_tokens=8).choices[0].text
    assert "".join(piece.choices[0].text for piece in streamed) == expected


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "repetition_penalty"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "cannot call tools"),
        ({"response_format": {"type": "json_object"}}, "response_format", "type: text"),
        ({"extra_body": {"prompt_logprobs": 1}}, "prompt_logprobs", "does not predict"),
        ({"extra_body": {"topeng": {"policy": "best"}}}, "policy", "must be one of"),
        ({"extra_body": {"topeng": {"steps": 3}}}, "steps", "must be a multiple of 2"),
        ({"extra_body": {"topeng": {"fixed_words": "kucing"}}}, "topeng.fixed_words", "position:word"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"extra_body": {"topeng": {"fixed_words": "0:kucing itu, 1:tidur"}}}, "topeng.fixed_words", "overlap"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
    ],
)
def test_absurd_values_are_refused_by_name(client, values, name, message):
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        whole(client, **values)
    assert caught.value.param == name


def test_what_is_not_known_is_tolerated(client):
    assert whole(client, user="me", metadata={"a": "b"}, extra_body={"something_new": 1}, frequency_penalty=0)


def test_a_mask_that_is_spelled_out_is_text(client):
    assert whole(client, messages=[{"role": "user", "content": "Apa arti <|mdm_mask|>?"}])


def test_a_context_that_is_too_long_is_told_with_its_code(client, models):
    for values in ({"max_tokens": 300}, {"messages": [{"role": "user", "content": "kucing " * 400}]}):
        with pytest.raises(openai.BadRequestError, match="the model's context is 256 tokens") as caught:
            whole(client, **values)
        assert caught.value.code == "context_length_exceeded"
    words = next(n for n in range(1, 400) if _prompt_tokens(models, n + 1) > 250)
    few = whole(client, messages=[{"role": "user", "content": "kucing " * words}]).usage
    assert few.total_tokens == 256 and 6 <= few.completion_tokens < 16  # what is left of the context is answered


def _prompt_tokens(models, words):
    return len(encode_prompt(models.tokenizer, [{"role": "user", "content": "kucing " * words}]))


def test_a_model_that_is_not_there(client):
    with pytest.raises(openai.NotFoundError, match="Models are base, one, two") as caught:
        whole(client, "three")
    assert caught.value.code == "model_not_found"
