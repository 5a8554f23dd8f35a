"""gunicorn's hooks: open files, and what a web process does from its start to its shutdown."""

from __future__ import annotations

import logging
import os
import resource
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from chatbot.config import garbage_collection
from chatbot.web import metrics_folder, start_checks
from chatbot.web.gunicorn import hooks as gunicorn_hooks
from devtools.harness.deployment import eventually


class Hub:
    """Records what a hook does to it."""

    def __init__(self, sockets: int = 0) -> None:
        self.started = False
        self.left: list[float] = []
        self.sockets = sockets

    def __len__(self) -> int:
        return self.sockets

    def start(self) -> None:
        self.started = True

    def go_away(self, spread: float) -> None:
        self.left.append(spread)


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the calls of `garbage_collection`; intervals are short."""
    calls: list[str] = []
    monkeypatch.setattr(garbage_collection, "tune", lambda: calls.append("tune"))
    monkeypatch.setattr(garbage_collection, "trim", lambda: calls.append("trim"))
    monkeypatch.setattr(gunicorn_hooks, "_POLL", 0.005)
    monkeypatch.setattr(gunicorn_hooks, "_TRIM_INTERVAL", 0.02)
    return calls


class Metrics:
    """Records what the attendant measures."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.sizes: list[float] = []
        self.observe_loop = self.lags.append
        self.memory = SimpleNamespace(set=self.sizes.append)


def worker_with(hub: Hub) -> Any:
    metrics = Metrics()
    bound: list[Any] = []
    access = SimpleNamespace(bind=bound.append, bound=bound)
    settings = SimpleNamespace(redis=SimpleNamespace(urls=()))
    services = SimpleNamespace(hub=hub, metrics=metrics, key_access=access, settings=settings)
    wsgi = SimpleNamespace(extensions={"chatbot": services})
    cfg = SimpleNamespace(address=[("127.0.0.1", 5000)])
    return SimpleNamespace(alive=True, booted=True, age=1, wsgi=wsgi, cfg=cfg)


def test_a_process_listens_trims_its_memory_and_closes_its_sockets_on_shutdown(trims: list[str]) -> None:
    hub = Hub()
    worker = worker_with(hub)
    gunicorn_hooks.post_worker_init(worker)
    assert hub.started
    eventually(lambda: trims.count("trim") > 1)
    assert trims[0] == "tune"
    assert worker.wsgi.extensions["chatbot"].key_access.bound == [[("127.0.0.1", 5000)]]
    assert hub.left == []
    worker.alive = False
    eventually(lambda: hub.left == [gunicorn_hooks._CLOSE_SPREAD])


def test_memory_is_not_trimmed_with_many_sockets(trims: list[str]) -> None:
    hub = Hub(sockets=gunicorn_hooks._TRIM_MAX_SOCKETS)
    worker = worker_with(hub)
    thread = threading.Thread(target=gunicorn_hooks._attend, args=(worker, hub, Metrics()))
    thread.start()
    thread.join(0.2)
    worker.alive = False
    thread.join(30)
    assert trims == []


def test_the_lag_of_the_event_loop_and_the_memory_are_measured(
    trims: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gunicorn_hooks, "_MEMORY_INTERVAL", 0.01)
    hub, metrics = Hub(sockets=0), Metrics()
    worker = worker_with(hub)
    thread = threading.Thread(target=gunicorn_hooks._attend, args=(worker, hub, metrics))
    thread.start()
    eventually(lambda: len(metrics.lags) >= 2 and metrics.sizes)
    worker.alive = False
    thread.join(30)
    assert all(0 <= lag < 5 for lag in metrics.lags)
    assert 1e6 < metrics.sizes[0] < 1e11


def test_the_master_raises_its_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(metrics_folder, "create", lambda: None)
    monkeypatch.setattr(metrics_folder, "remove_abandoned", lambda: None)
    monkeypatch.setattr(start_checks, "check_master", lambda _: None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        gunicorn_hooks.on_starting(SimpleNamespace(cfg=None))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("booted", "alive", "exits"), [(True, False, [0]), (True, True, []), (False, False, [])])
def test_only_a_process_that_served_skips_the_interpreters_shutdown(
    monkeypatch: pytest.MonkeyPatch, booted: bool, alive: bool, exits: list[int]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    gunicorn_hooks.worker_exit(None, SimpleNamespace(booted=booted, alive=alive))
    assert codes == exits
