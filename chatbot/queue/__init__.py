"""Celery's app, which web processes and workers share, and its transport for Redis.

A task only says that a session needs a worker: what is unanswered is in the ledger (`sessions/ledger.py`).
"""
