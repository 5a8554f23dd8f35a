"""The configuration of `celery -A celery_worker flower`."""

from chatbot.entry.flower_conf import *  # noqa: F403
