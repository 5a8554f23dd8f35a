"""Real inference servers as processes on free ports."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from devtools.harness.deployment import Process, eventually
from devtools.harness.ports import free_port

#: Seconds in which a server loads its model and listens; vLLM takes about 25 on two cores.
LOAD_TIMEOUT = 180.0
#: Nothing is fetched from a model hub, and no usage is reported.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@contextlib.contextmanager
def served(name: str, command: list[str], port: int, folder: Path, **environ: str) -> Iterator[str]:
    """The address of a server: the process `command`, which listens on `port` once it is ready."""
    process = Process(name, command, {**os.environ, **_OFFLINE, **environ}, folder / f"{name}.log").start()

    def listens() -> bool:
        if not process.running:
            raise RuntimeError(f"{name} ended: {process.log[-3000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        eventually(listens, LOAD_TIMEOUT, f"{name} listens: {folder / name}.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        # SIGKILL would leave vLLM's engine behind, which runs in a process group of its own.
        with contextlib.suppress(AssertionError):
            process.stop()
        process.kill()


def llama(folder: Path) -> contextlib.AbstractContextManager[str]:
    """llama.cpp's server with the local model."""
    port = free_port()
    return served(
        "llama",
        [sys.executable, "-m", "devtools.local.llama_server", "--port", str(port), "--threads", "1"],
        port,
        folder,
    )


def vllm(python: Path, model: Path, name: str, folder: Path) -> contextlib.AbstractContextManager[str]:
    """vLLM on a processor, under `python`, with the checkpoint in the folder `model` served as `name`."""
    port = free_port()
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    # Without compiling it starts in half the time; 1 GiB holds the cache of so small a model many times.
    command += ["--dtype", "float32", "--enforce-eager"]
    return served("vllm", command, port, folder, VLLM_CPU_KVCACHE_SPACE="1")


def transformers(python: Path, model: Path, folder: Path) -> contextlib.AbstractContextManager[str]:
    """`transformers serve` under `python`; the model's name is its folder."""
    port = free_port()
    command = [str(python.parent / "transformers"), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return served("transformers", command, port, folder)
