"""The entry point of `gunicorn wsgi:app` and `flask --app wsgi`."""

from chatbot.app import create_app
from chatbot.web.start_checks import WITHOUT_SERVER, check_app

if __name__ == "__main__":
    raise SystemExit(WITHOUT_SERVER)

check_app()
app = create_app()
