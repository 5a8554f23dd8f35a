"""The worker process: takes sessions, asks the model, and settles every message.

Celery starts it by `process.py`. A task (`tasks.py`) has `replies.py` answer a session. For that `model_requests.py`
asks a model of `models/` or a bot of `bots/`, and `open_streams.py` reports the text to Redis while it is generated.
`recovery.py` answers what other workers left. `services.py` makes the objects that all of these share.
"""
