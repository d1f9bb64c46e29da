"""An adapted model as one checkpoint in its family's official layout."""

import shutil
from pathlib import Path

from peft import PeftModel

from topeng import load
from topeng.errors import RunError


def export_merged(model: str, adapter: str, out: Path) -> None:
    """Merges an adapter into its base and writes it, with the tokenizer, to `out`.

    Raises:
        RunError: `out` exists already.
        ModelError, AdapterError: the base or the adapter cannot be loaded.
    """
    if out.exists():
        raise RunError(f"{out} exists already: name a folder that does not")
    adapted, tokenizer = load(model, adapter)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged = adapted.merge_and_unload() if isinstance(adapted, PeftModel) else adapted
    merged.save_pretrained(str(partial))
    tokenizer.save_pretrained(str(partial))
    partial.replace(out)
