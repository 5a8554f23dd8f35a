"""The wire contract as code: frames, stored documents, events, close codes, errors. docs/protocol.md says it in words.

This package imports nothing of Redis, Flask or Celery.
"""
