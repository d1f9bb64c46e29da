"""`topeng serve`: loads a model and its adapters, and answers requests until it is stopped."""

import argparse
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from topeng import load
from topeng.adapt.voices import load_voices, named_folders
from topeng.errors import GenerationError, Stopped
from topeng.generate.settings import Settings, checkpoint_settings
from topeng.serve.app import Limits, Server, create_app
from topeng.serve.asking import Models


@dataclass(frozen=True)
class Address:
    """Where a server listens, and who may send requests.

    Attributes:
        origins: other sites whose pages may send requests (CORS).
        insecure: whether other machines may send requests without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Sequence[str] = ()
    origins: Sequence[str] = ()
    insecure: bool = False

    def check(self) -> None:
        """
        Raises:
            GenerationError: anybody on the network could send requests.
        """
        if not (self.keys or self.insecure or is_loopback(self.host)):
            raise GenerationError(
                f"--host {self.host} accepts requests from other machines. Set a key (TOPENG_API_KEY, --api-key), or "
                "use --insecure."
            )

    def bind(self) -> socket.socket:
        """Reserves the address without listening, so that no client waits while the model is loaded.

        Raises:
            GenerationError: the address is in use, or does not belong to this machine.
        """
        bound = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self.host, self.port))
        except (OSError, OverflowError) as error:
            bound.close()
            reason = getattr(error, "strerror", None) or error
            raise GenerationError(
                f"cannot listen at {self.host}, port {self.port} ({reason}). Choose another --port or --host."
            ) from error
        return bound


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a processor has no instructions for bfloat16, so that torch emulates it.

    Measured on an EPYC whose instructions were hidden from torch: `kecil` took 3 to 4 times as long in bfloat16 as in
    float32.
    """
    if device.type != "cpu" or dtype != torch.bfloat16:
        return False
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 and 2.12 may not say
    return bool(known) and not any(known[name] for name in known if "bf16" in name)


def all_keys(given: Sequence[str]) -> list[str]:
    """Keys from the command line and from TOPENG_API_KEY, which other users of the machine cannot see."""
    return [key for key in (*given, *os.environ.get("TOPENG_API_KEY", "").split(",")) if key]


def serve(known: argparse.Namespace, settings: Settings, quiet: bool = False, verbose: bool = False) -> None:
    """Runs until SIGTERM or Ctrl-C, and then finishes the requests in progress.

    Args:
        quiet: print nothing at the end.
        verbose: log a line for each request.

    Raises:
        ModelError, AdapterError: something cannot be loaded.
        GenerationError: the address is open to others and no key is set, or the server cannot listen there.
    """
    address = Address(known.host, known.port, all_keys(known.api_key), known.cors, known.insecure)
    address.check()
    with address.bind() as bound:
        _run(_app(known, settings, address, bound), bound, quiet, verbose)


def _app(known: argparse.Namespace, settings: Settings, address: Address, bound: socket.socket) -> FastAPI:
    """Loads the model and its adapters, and prints what is served."""
    limits = Limits(known.batch_tokens, known.queue, known.max_body, known.time_limit)
    folders = named_folders(known.adapters)
    base, tokenizer = load(known.model, dtype=known.dtype, device=known.device)
    own = checkpoint_settings(known.model)
    turns = own.get("turns") if known.turns is None else known.turns
    models = Models(load_voices(base, folders), tokenizer, settings, known.system, own, turns)
    app = create_app(Server(models, limits, address.keys, address.origins))
    shown = f"[{address.host}]" if ":" in address.host else address.host
    where, precision = f"http://{shown}:{bound.getsockname()[1]}/", str(base.dtype).removeprefix("torch.")
    print(f"topeng: serving {', '.join(models.voices)} in {precision} at {where} (page) and /v1 (API)", flush=True)
    if is_emulated(base.dtype, base.device):
        print("topeng: this processor emulates bfloat16. With --dtype float32 it is several times as fast.", flush=True)
    return app


def _run(app: FastAPI, bound: socket.socket, quiet: bool, verbose: bool) -> None:
    # Paths may be logged, bodies never are.
    config = uvicorn.Config(app, log_level="info" if verbose else "warning")
    running = uvicorn.Server(config)
    try:
        running.run([bound])
    except (KeyboardInterrupt, Stopped):
        begun = "cancelled" if running.force_exit else "answered"  # after a second Ctrl-C
        if not quiet:
            print(f"topeng: stopped. Requests in progress were {begun}.", flush=True)
