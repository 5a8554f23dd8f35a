"""Measures how long HTTP requests take, by route. Websockets are left out: they last as long as the client stays.

So are requests that wait for a reply: the model's time is measured where the model is asked."""

from __future__ import annotations

import time
from collections.abc import Collection

from flask import Flask, Response, g, request
from prometheus_client import Histogram

#: The label of requests that match no route; a path is chosen by the client.
NO_ROUTE = "none"


def time_requests(app: Flask, histogram: Histogram, *, without: Collection[str]) -> None:
    """Observes each request in `histogram`, labelled by route, without those of the routes `without` and the untimed.

    A view that waits on purpose sets `g.untimed`.

    To be called before anything else adds a hook to the app, so that its hooks are included.
    """

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def observe(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else NO_ROUTE
        if route not in without and not g.get("untimed"):
            histogram.labels(route).observe(time.perf_counter() - g.began)
        return response
