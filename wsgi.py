"""The entry point of `gunicorn wsgi:app` and `flask --app wsgi`."""

from chatbot.app import create_app

app = create_app()
