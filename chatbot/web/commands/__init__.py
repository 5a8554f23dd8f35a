"""The operator's commands, run with `chatbot` or `flask --app wsgi`."""
