"""The entry point of web processes and of the operator's commands: `gunicorn` and `flask --app` load `app`."""

from chatbot.app import create_app

app = create_app()
