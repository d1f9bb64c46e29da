"""What the harness is spared: it runs pip, lscpu and others for its record of the machine, in each evaluation."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_record_of_the_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "not looked for")
        yield
