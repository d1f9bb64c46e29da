"""Uploads to a local stand-in of the Hub's HTTP interface: what it gets, and what never gets there."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import yaml

from topeng.adapt.export import export
from topeng.adapt.export_card import read_card
from topeng.cli import main


class Hub(ThreadingHTTPServer):
    """Repositories by name, with their files; `calls` are (method, path) as they came."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories, self.large, self.calls, self.refuse = {}, {}, [], None
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self):
        self.server.calls.append(("GET", self.path))
        name = "/".join(self.path.split("?")[0].split("/")[3:5])
        found = self.server.repositories.get(name)
        if found is None:
            self.say({"error": "Repository not found"}, 404)
        else:
            self.say({"id": name, "modelId": name, "private": found["private"], "siblings": [], "sha": "0" * 40})

    def do_PUT(self):
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.say({})

    def do_POST(self):
        hub, path, body = self.server, self.path, self.body()
        hub.calls.append(("POST", path))
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.say({"error": "Invalid username or password."}, 401)
        if hub.refuse:
            return self.say({"error": hub.refuse}, 403)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in files
            ]
            return self.say({"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [one | {"actions": {"upload": {"href": f"{hub.address}/large/{one['oid']}"}}} for one in objects]
            return self.say({"transfer": "basic", "objects": actions})
        if "/commit/main" in path:
            return self._commit("/".join(path.split("/")[3:5]), [json.loads(line) for line in body.splitlines()])
        return self.say({"error": f"no such path {path}"}, 404)

    def _create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.server.repositories else 200
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.server.repositories.setdefault(name, {"private": private, "files": {}})
        self.say({"url": f"{self.server.address}/{name}", "name": name, "id": name}, status)

    def _commit(self, name, lines):
        files = self.server.repositories[name]["files"]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
                assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
        address = f"{self.server.address}/{name}"
        self.say({"success": True, "commitOid": "1" * 40, "commitUrl": f"{address}/commit/{'1' * 40}"})


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(checkpoint, tmp_path):
    """An export whose card states every licence."""
    export(checkpoint, tmp_path / "mine")
    state(tmp_path / "mine", license="apache-2.0", base_license="mit", data_license={"a": "cc-by-4.0"})
    (tmp_path / "mine" / ".cache").mkdir()
    (tmp_path / "mine" / ".cache" / "secret").write_text("x")
    return tmp_path / "mine"


def state(folder, **licences):
    front, body = read_card(folder / "README.md")
    front.pop("license_name", None)
    kept = {name: value for name, value in (front | licences).items() if value is not None}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(kept)}---\n{body}")


@pytest.fixture
def push(hub, monkeypatch, capsys):
    """Uploads to that Hub; returns the exit status, and what was printed to stdout and to stderr."""

    def pushed(*arguments, token="hf_test"):
        capsys.readouterr()
        for name, value in {"ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", token)
        return main(["push", *map(str, arguments)]), *capsys.readouterr()

    return pushed


@pytest.mark.slow
def test_a_process_uploads_to_the_hub_that_its_environment_names(hub, folder):
    changed = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_other", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "topeng", "push", str(folder), "someone/mine"]
    done = subprocess.run(command, env=os.environ | changed, capture_output=True, text=True, check=False)
    assert (done.returncode, hub.calls[0]) == (1, ("POST", "/api/repos/create")) and hub.repositories == {}
    assert done.stderr.startswith("topeng: cannot upload ") and done.stderr.count("\n") == 1, done.stderr


def test_the_hub_gets_every_file_and_its_card(hub, folder, push):
    status, out, error = push(folder, "someone/mine", "--private")
    assert status == 0, error
    assert out.endswith(f"uploaded: {hub.address}/someone/mine\n")
    found = hub.repositories["someone/mine"]
    assert found["private"]
    here = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert found["files"] == here and "README.md" in here and "model.safetensors" in here


def test_a_repository_that_is_public_is_not_taken_for_private(hub, folder, push):
    hub.repositories["someone/mine"] = {"private": False, "files": {}}
    status, _, error = push(folder, "someone/mine", "--private")
    assert status == 1 and hub.repositories["someone/mine"]["files"] == {}
    assert "someone/mine already exists and is public. Make it private first" in error


@pytest.mark.parametrize(("token", "refuse", "said"), [("hf_other", None, "401"), ("hf_test", "You may not", "403")])
def test_a_refusal_of_the_hub_is_one_line(hub, folder, push, token, refuse, said):
    hub.refuse = refuse
    status, _, error = push(folder, "someone/mine", token=token)
    assert status == 1 and hub.repositories == {}
    assert error.startswith("topeng: cannot upload ") and error.count("\n") == 1, error
    assert said in error and "hf auth login" in error and token not in error


def test_a_dry_run_lists_files_and_asks_nobody(folder, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", None)
    assert main(["push", str(folder), "someone/mine", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[2]: float(line.split()[0].replace(",", "")) for line in lines[:-1]}
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    assert {name: round(size / 1e6, 1) for name, size in sizes.items()} == listed
    assert lines[-1] == "Nothing was uploaded. These are the files that someone/mine would contain."


@pytest.mark.parametrize(
    ("licences", "message"),
    [
        ({"license": None}, "does not state the licence of these weights. Add it as `license`"),
        ({"license": "other", "license_name": "not-stated"}, "the licence of these weights"),
        ({"base_license": "not stated"}, "does not state the licence of the base. Add it as `base_license`"),
        ({"base_license": None}, "the licence of the base"),
        ({"data_license": None}, "does not state the licence of the training texts. Add it as `data_license`"),
        ({"data_license": {"a": "cc-by-4.0", "b": "not stated"}}, "the licence of the training texts"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_nothing_goes_without_the_licences(folder, capsys, licences, message, more):
    state(folder, **licences)
    assert main(["push", str(folder), "someone/mine", *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_is_not_whole_is_refused(folder, capsys):
    def refused():
        assert main(["push", str(folder), "someone/mine", "--dry-run"]) == 1
        return capsys.readouterr().err

    (folder / "README.md").rename(folder / "card.md")
    assert "has no README.md, the model card" in refused()
    (folder / "model.safetensors").unlink()
    assert "contains no complete model or adapter" in refused()
    shutil.rmtree(folder)
    assert "there is no folder" in refused()
