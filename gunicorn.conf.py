"""The configuration of `gunicorn wsgi:app`."""

from chatbot.entry.gunicorn_conf import *  # noqa: F403
