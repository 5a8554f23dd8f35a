"""A chatbot backend on Flask, Celery and Redis: every reply arrives, once, in order."""
