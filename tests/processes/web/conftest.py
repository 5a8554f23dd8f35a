"""Deployments that several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment


@pytest.fixture(scope="package")
def strict(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes with low rates, which take the client's address from X-Forwarded-For.

    While a test counts what is admitted, hardly more comes back, even on a busy machine: the rates are by the minute.
    Only those of one session let a client in again soon.
    """
    with Deployment(
        model.url,
        webs=2,
        ratelimit_enabled="true",
        ratelimit_sessions="4/minute",
        ratelimit_session_messages="3/3second",
        ratelimit_address_messages="6/minute",
        ratelimit_address_bytes="5000/hour",
        ratelimit_session_reads="4/4second",
        ratelimit_address_reads="6/minute",
        max_pending_messages=20,
        trusted_proxies="127.0.0.0/8",
    ) as deployment:
        yield deployment
