"""Other people's clients, unchanged, where they are: `pip install langchain-openai litellm llm schemathesis`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow
ASK = "Di mana kucing itu tidur?"


@pytest.fixture(scope="module")
def expected(url):
    """What the server itself says."""
    body = {"model": "one", "messages": [{"role": "user", "content": ASK}], "max_tokens": 16, "seed": 1}
    return httpx.post(f"{url}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


def test_openais_node_client(url):
    """`npm install openai` in a folder, named by TOPENG_NODE."""
    folder = os.environ.get("TOPENG_NODE")
    if not folder or not shutil.which("node"):
        pytest.skip("needs node, and TOPENG_NODE: a folder in which `npm install openai` was run")
    script = Path(__file__).with_name("openai_node.mjs")
    done = subprocess.run(["node", script, folder, f"{url}/v1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {"same": True, "usage": [16, 16], "refused": [400, "temperature"], "cut": [True, "stop"]}


def test_langchain(url, expected):
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(
        model="one", base_url=f"{url}/v1", api_key="none", max_tokens=16, seed=1, max_retries=0
    )
    assert chat.invoke(ASK).content == expected
    pieces = list(chat.stream(ASK))
    assert "".join(piece.content for piece in pieces) == expected and len(pieces) > 2
    assert chat.invoke(ASK).usage_metadata["output_tokens"] == 16


def test_litellm(url, expected):
    litellm = pytest.importorskip("litellm")
    ask = {
        "model": "openai/one",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "messages": [{"role": "user", "content": ASK}],
        "max_tokens": 16,
        "seed": 1,
        "num_retries": 0,
    }
    assert litellm.completion(**ask).choices[0].message.content == expected
    pieces = litellm.completion(**ask, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == expected
    with pytest.raises(litellm.exceptions.BadRequestError):
        litellm.completion(**ask | {"temperature": 9})


def test_the_llm_command(url, expected, tmp_path):
    pytest.importorskip("llm")
    model = {"model_id": "topeng", "model_name": "one", "api_base": f"{url}/v1", "can_stream": True}
    (tmp_path / "extra-openai-models.yaml").write_text(f"- {json.dumps(model)}\n")
    options = ["-o", "max_tokens", "16", "-o", "seed", "1", "--key", "none"]
    command = [sys.executable, "-m", "llm", "-m", "topeng", ASK, *options]
    env = os.environ | {"LLM_USER_PATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


def test_schemathesis(url, tmp_path):
    """No 5xx, no status and no type of content that the document does not name; and not only refusals."""
    pytest.importorskip("schemathesis")
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [sys.executable, "-c", program, "run", f"{url}/openapi.json", "--checks", checks, "--max-examples", "20"]
    done = subprocess.run([*command, "--seed", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-3000:]
    answered = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if 'status="200"' in line]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/denoise"} <= {line.split('"')[1] for line in answered}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("messages", "max_tokens", "temperature", "top_p", "n", "stop", "stream", "seed", "logprobs", "top_logprobs")
TOPENG = ("steps", "block_length", "policy", "cfg_scale", "fixed_words", "template", "preset", "gaps", "window")
MESSAGES = [{"role": "user", "content": "Apa?"}]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
    own=st.dictionaries(st.sampled_from(TOPENG), json_values | st.integers(-3, 70), max_size=3),
)
def test_no_body_breaks_the_server(url, fields, own):
    body = {"model": "base", "messages": MESSAGES, "max_tokens": 8, "topeng": own} | fields
    text = json.dumps(body).encode()
    answer = httpx.post(
        f"{url}/v1/chat/completions", content=text, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.status_code in (200, 400, 413), answer.text
    assert answer.status_code == 200 or answer.json()["error"]["message"]
