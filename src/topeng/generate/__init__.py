"""Decoding. `Settings` is torch-free; the loop is imported when it is first used."""

from typing import Any

from topeng.generate.settings import Settings

__all__ = ["Settings", "generate_ids"]


def __getattr__(name: str) -> Any:
    if name == "generate_ids":
        from topeng.generate.decode import generate_ids

        return generate_ids
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
