from importlib.util import module_from_spec
from queue import Empty, SimpleQueue
from threading import Thread

import pytest
from torch.distributed import TCPStore

from topeng.errors import RunError
from topeng.system import ranks


def test_another_launcher_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "RANKS", 4)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with pytest.raises(RunError, match=r"WORLD_SIZE = 4, but the launcher is unknown\. Use torchrun"):
        ranks.use_own_gpu()


def test_one_process_says_nothing():
    ranks.tell("work")
    with ranks.rank_0_first():
        pass


def test_the_others_hear_each_word_in_turn(monkeypatch):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    launcher = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for name, value in {**launcher, "TORCHELASTIC_RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(name, value)
    other = module_from_spec(ranks.__spec__)
    ranks.__spec__.loader.exec_module(other)  # which is rank 1 in this process
    heard = SimpleQueue()

    def listen() -> None:
        for _ in range(2):
            heard.put(other.hear())
        with other.rank_0_first():
            heard.put("after rank 0")

    Thread(target=listen, daemon=True).start()
    for number, word in enumerate(("skip", "work")):
        store.set(f"topeng/0/{number}", word)
        assert heard.get(timeout=60) == word
    with pytest.raises(Empty):  # it waits for rank 0
        heard.get(timeout=0.3)
    store.set("topeng/0/2", "")
    assert heard.get(timeout=60) == "after rank 0"
