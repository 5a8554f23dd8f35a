"""The steps on a session. Each is one Lua script of `scripts/`, and so atomic.

Web processes use `sessions.py`, `requests.py` (what asks for a reply) and `responses.py` (of OpenAI's interfaces).
Workers use `leases.py`, and `ledger.py` to find the sessions that need a worker.
"""
