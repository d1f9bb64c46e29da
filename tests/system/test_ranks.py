import os
import subprocess
import sys

import pytest
from torch.distributed import TCPStore

from topeng.errors import RunError
from topeng.system import ranks

LISTENER = """
from topeng.system import ranks
print(ranks.hear(), ranks.hear(), flush=True)
with ranks.rank_0_first():
    print("after rank 0")
"""


def test_another_launcher_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "RANKS", 4)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with pytest.raises(RunError, match=r"WORLD_SIZE = 4, but the launcher is unknown\. Use torchrun"):
        ranks.use_own_gpu()


def test_one_process_says_nothing():
    ranks.tell("work")
    with ranks.rank_0_first():
        pass


def test_the_others_hear_each_word_in_turn():
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    launcher = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    environment = {**os.environ, **launcher, "TORCHELASTIC_RESTART_COUNT": "0"}
    process = subprocess.Popen([sys.executable, "-c", LISTENER], env=environment, stdout=subprocess.PIPE, text=True)
    for number, word in enumerate(("skip", "work")):
        store.set(f"topeng/0/{number}", word)
    assert process.stdout.readline() == "skip work\n"
    assert process.poll() is None  # it waits for rank 0
    store.set("topeng/0/2", "")
    assert process.communicate(timeout=60)[0] == "after rank 0\n"
