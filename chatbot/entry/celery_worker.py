"""The entry point of workers and Flower: `celery -A` loads `celery_app`."""

from chatbot import logs
from chatbot.worker.process import create_worker

celery_app = create_worker(logs.settings_or_exit())
