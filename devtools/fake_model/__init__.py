"""A stand-in for a text-generation server: the real protocols and failures, a reply known beforehand.

As a process of its own: ``python -m devtools.fake_model --port 0 --first 200 --interval 50``; its first line
of output is ``listening on http://127.0.0.1:PORT``. In a test: ``with ModelServer(interval=50) as server:``.

It answers ``You said: TEXT .`` to what the human said last, unless that text begins with orders:

- ``!tokens=N``, ``!first=MS``, ``!interval=MS``: how long the reply is, and how slow
- ``!fault=NAME``, or ``!fault=NAME*K`` to fail only the first K requests with exactly this text
- ``!say=TEXT``, the last one: reply TEXT itself, in pieces of 4 characters, with ``\\n`` for a new line

``PUT /control`` orders the same for every request.
``GET /requests`` tells what was asked and what became of it.
"""

from .faults import FAULTS
from .server_process import ModelServer
from .state import Record, Settings

__all__ = ["FAULTS", "ModelServer", "Record", "Settings"]
