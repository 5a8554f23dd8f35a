"""The entry point of `gunicorn wsgi:app` and `flask --app wsgi`."""

from chatbot.web.start_checks import WITHOUT_SERVER

if __name__ == "__main__":
    raise SystemExit(WITHOUT_SERVER)

from chatbot.entry.wsgi import app

__all__ = ["app"]
