"""A stand-in for a text-generation server: the real protocols and failures, with a predictable reply.

As a process: ``python -m devtools.fake_model --port 0 --first 200 --interval 50``; its first line of output is
``listening on http://127.0.0.1:PORT``. In a test: ``with ModelServer(interval=50) as server:``.

It answers ``You said: TEXT .`` to the last human message, unless that begins with orders:

- ``!tokens=N``, ``!first=MS``, ``!interval=MS``: the length and the pace of the reply
- ``!fault=NAME``, or ``!fault=NAME*K`` to fail only the first K requests with exactly this text
- ``!say=TEXT``, which must be the last order: the reply is TEXT, in tokens of 4 characters, with ``\\n`` for a new line

A chat with tools gets a call of one, unless a text is ordered or the output of a tool is the last message. A reply to
images says how many there were.

In a reply, ``<think>…</think>`` is reasoning, as servers without a reasoning parser send it.

``PUT /control`` gives the same orders for every request, makes the server strict about turns or contents, and holds
streams after some tokens until that is lifted.
``GET /requests`` returns the requests and their outcomes.
"""

from devtools.fake_model.faults import FAULTS
from devtools.fake_model.server_process import ModelServer
from devtools.fake_model.state import Controls, Record

__all__ = ["FAULTS", "Controls", "ModelServer", "Record"]
