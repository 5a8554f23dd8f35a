"""The entry point of `celery -A celery_worker worker`, `beat` and `flower`."""

from chatbot.config import load_settings
from chatbot.worker.process import create_worker

celery_app = create_worker(load_settings())
