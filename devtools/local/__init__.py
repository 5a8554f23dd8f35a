"""Everything on one machine: what ``make run`` needs besides the chatbot itself.

``python -m devtools.local`` starts a Redis with RedisJSON, a small language model, the web server, the
Celery worker, beat and Flower, and keeps them running until Ctrl-C. Nothing here is imported by the web or
worker side.
"""
