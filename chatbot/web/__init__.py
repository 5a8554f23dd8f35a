"""The web process: routes, transports of frames, limits, metrics and the page.

A request or a socket enters at `routes/`, `transports/` or `openai/`. They use the parts of the process through
`services.py`. `fanout/` delivers events to sockets, `limits/` refuses too many requests, `gunicorn/` adapts the server.
"""
