"""The entry point of `celery -A celery_worker worker` and `flower`."""

from chatbot import logs
from chatbot.worker.process import create_worker

if __name__ == "__main__":
    raise SystemExit("this file is started by Celery: run celery -A celery_worker worker")

celery_app = create_worker(logs.settings_or_exit())
