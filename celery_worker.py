"""The entry point of `celery -A celery_worker worker` and `flower`."""

if __name__ == "__main__":
    raise SystemExit("this file is started by Celery: run celery -A celery_worker worker")

from chatbot.entry.celery_worker import celery_app

__all__ = ["celery_app"]
