"""The entry point of `celery -A celery_worker worker` and `flower`."""

from chatbot import logs
from chatbot.worker.process import create_worker

celery_app = create_worker(logs.settings_or_exit())
