"""Versions of the software that results depend on."""

import platform
from importlib import metadata

PACKAGES = ("topeng", "torch", "transformers", "peft", "accelerate", "daft", "scikit-learn", "umap-learn", "sacrebleu")


def versions() -> dict[str, str]:
    """The versions of Python and of the installed ones of these packages."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
