"""The versions of what results depend on."""

import platform
from importlib import metadata

PACKAGES = ("topeng", "torch", "transformers", "peft", "accelerate", "daft", "scikit-learn", "umap-learn", "sacrebleu")


def versions() -> dict[str, str]:
    """Of Python and of each of these packages that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
