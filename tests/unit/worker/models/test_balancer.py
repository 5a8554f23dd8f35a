"""One model on several servers: load is spread, failing servers are skipped, no text comes twice."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from chatbot.config import ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.balancer import BalancedModel
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import (
    CallCancelled,
    ModelError,
    ModelLoading,
    PermanentModelError,
    RequestRefused,
    TransientModelError,
)
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer

#: Seconds for which a failing server is skipped in these tests.
REST = 0.4


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ModelServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ModelServer()) for _ in range(2)]


@pytest.fixture(autouse=True)
def fresh(servers: list[ModelServer]) -> None:
    for server in servers:
        server.reset()


def several(*urls: str, **changes: object) -> Model:
    addresses = tuple(ModelAddress(f"{url}/v1/completions", "openai-completions") for url in urls)
    settings = {"rest": REST, "read_timeout": 1.0, "loading_timeout": 1.0, **changes}
    return create_model(Settings(model=ModelSettings(servers=addresses, **settings)))  # type: ignore[arg-type]


def ask(model: Model, text: str, call: Call | None = None) -> str:
    return "".join(piece.text for piece in model.generate([PromptMessage("user", text)], call or Call(30)))


def asked(servers: list[ModelServer]) -> list[int]:
    return [len(server.requests()) for server in servers]


@pytest.mark.parametrize(
    "fault", ["loading", "rate_limited", "unauthorized", "server_error", "html_200", "broken_json", "silent"]
)
def test_a_failing_server_is_skipped_from_then_on(servers: list[ModelServer], fault: str) -> None:
    servers[0].fault(fault)
    model = several(*(server.url for server in servers), rest=60.0)
    # It fails before its first token: later failures are not retried with another server.
    servers[0].control(after=0)
    for n in range(3):
        assert ask(model, f"question {n}").startswith(f"You said: question {n}")
    assert asked(servers) == [1, 3]


def test_a_missing_server_is_skipped(servers: list[ModelServer]) -> None:
    assert ask(several("http://127.0.0.1:9", servers[1].url), "hello").startswith("You said: hello")


def test_a_server_that_works_again_is_used_again(servers: list[ModelServer]) -> None:
    servers[0].fault("server_error", 1)
    model = several(*(server.url for server in servers))
    ask(model, "one")
    assert asked(servers) == [1, 1]
    deadline = time.monotonic() + 10
    while asked(servers)[0] == 1 and time.monotonic() < deadline:
        ask(model, "more")
    assert asked(servers)[0] == 2
    ask(model, "and on")
    assert asked(servers)[0] == 3


def test_one_call_at_a_time_probes_whether_a_server_works_again(servers: list[ModelServer]) -> None:
    servers[0].fault("server_error", 1)
    model = several(*(server.url for server in servers))
    ask(model, "one")
    servers[0].fault("silent")
    threading.Event().wait(REST + 0.1)
    servers[1].control(first=200)
    threads = [threading.Thread(target=ask, args=(model, f"question {n}")) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked(servers) == [2, 11]


def test_load_is_spread_over_the_servers(servers: list[ModelServer]) -> None:
    for server in servers:
        server.control(first=500)
    model = several(*(server.url for server in servers))
    threads = [threading.Thread(target=ask, args=(model, f"question {n}")) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked(servers) == [5, 5]


class Idle(Model):
    """A model whose replies last until they are closed."""

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        while True:
            yield Piece("word ")


def balanced(count: int) -> BalancedModel:
    return BalancedModel({f"http://model{n}": Idle() for n in range(count)}, REST)


def chosen(model: BalancedModel, session: str) -> tuple[int, Pieces]:
    """The server that a reply of `session` comes from, and the reply, which stays in progress."""
    before = [server.calls for server in model._servers]
    pieces = model.generate([], Call(30, session=session))
    next(pieces)
    return [server.calls - calls for server, calls in zip(model._servers, before, strict=True)].index(1), pieces


def test_a_session_stays_with_one_server_whichever_process_calls() -> None:
    workers = [balanced(4), balanced(4)]
    used = set()
    for n in range(50):
        servers = set()
        for worker in workers:
            server, pieces = chosen(worker, f"session {n}")
            pieces.close()
            servers.add(server)
        assert len(servers) == 1
        used |= servers
    assert used == {0, 1, 2, 3}


def test_only_the_sessions_of_a_failing_server_move() -> None:
    model = balanced(4)
    home = {}
    for n in range(50):
        home[n], pieces = chosen(model, f"session {n}")
        pieces.close()
    model._servers[2].failed(TransientModelError("server_error", "made up"))
    moved = set()
    for n, before in home.items():
        now, pieces = chosen(model, f"session {n}")
        pieces.close()
        assert before in (now, 2)
        if before == 2:
            moved.add(now)
    assert moved == {0, 1, 3}


def test_many_workers_with_few_calls_each_spread_them_over_all_servers() -> None:
    workers = [balanced(4) for _ in range(20)]
    counts = [0] * 4
    replies = []
    for n in range(100):
        server, pieces = chosen(workers[n % 20], f"session {n}")
        replies.append(pieces)
        counts[server] += 1
    for pieces in replies:
        pieces.close()
    assert max(counts) <= 1.3 * 25


def test_a_server_with_too_many_calls_passes_a_session_on_to_its_next_server() -> None:
    model = balanced(4)
    replies = [chosen(model, "the same session")[1] for _ in range(20)]
    calls = [server.calls for server in model._servers]
    for pieces in replies:
        pieces.close()
    assert max(calls) == 7
    assert sum(calls) == 20


def test_failed_servers_do_not_count_where_the_others_share_the_calls() -> None:
    model = balanced(8)
    for server in model._servers[2:]:
        server.failed(TransientModelError("server_error", "made up"))
    replies = [chosen(model, "the same session")[1] for _ in range(30)]
    calls = [server.calls for server in model._servers]
    for pieces in replies:
        pieces.close()
    assert sum(calls[2:]) == 0
    assert max(calls) <= 20


def test_no_text_comes_twice(servers: list[ModelServer]) -> None:
    servers[0].fault("cut_stream", after=3)
    model = several(*(server.url for server in servers), rest=60.0)
    pieces = model.generate([PromptMessage("user", "hello out there")], Call(30))
    assert next(pieces).text
    with pytest.raises(TransientModelError):
        list(pieces)
    assert asked(servers) == [1, 0]
    # The next attempt goes to the other one.
    assert ask(model, "hello out there").startswith("You said: hello out there")
    assert asked(servers) == [1, 1]


def test_a_request_that_every_server_would_refuse_is_sent_once(servers: list[ModelServer]) -> None:
    servers[0].fault("invalid", 1)
    model = several(*(server.url for server in servers))
    with pytest.raises(RequestRefused):
        ask(model, "too long")
    assert asked(servers) == [1, 0]
    ask(model, "the server is not to blame")
    assert asked(servers) == [2, 0]


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (("unauthorized", "server_error"), TransientModelError),
        (("server_error", "loading"), ModelLoading),
        (("unauthorized", "credits"), PermanentModelError),
    ],
)
def test_of_several_failures_the_one_that_is_likely_to_pass_soonest_is_raised(
    servers: list[ModelServer], faults: tuple[str, str], error: type[ModelError]
) -> None:
    for server, fault in zip(servers, faults, strict=True):
        server.fault(fault)
    with pytest.raises(ModelError) as caught:
        ask(several(*(server.url for server in servers)), "hello")
    assert type(caught.value) is error
    assert asked(servers) == [1, 1]


def test_when_all_servers_have_failed_the_next_call_tries_all_again(servers: list[ModelServer]) -> None:
    for server in servers:
        server.fault("server_error", 1)
    model = several(*(server.url for server in servers), rest=60.0)
    with pytest.raises(TransientModelError):
        ask(model, "hello")
    assert ask(model, "again").startswith("You said: again")


def test_a_server_without_text_before_the_deadline_is_skipped(servers: list[ModelServer]) -> None:
    servers[0].fault("silent")
    model = several(*(server.url for server in servers), read_timeout=30.0, rest=60.0)
    call = Call(0.3)
    timer = threading.Timer(0.3, call.cancel, ["deadline"])
    timer.start()
    with pytest.raises(CallCancelled):
        ask(model, "hello", call)
    timer.join()
    ask(model, "again")
    assert asked(servers) == [1, 1]


def test_the_log_names_the_server_that_failed(servers: list[ModelServer], caplog: pytest.LogCaptureFixture) -> None:
    servers[0].fault("server_error")
    with caplog.at_level(logging.WARNING):
        ask(several(*(server.url for server in servers)), "hello")
    assert (
        f"server_error: 500: incomplete_generation, error text of 21 characters (asked {servers[0].url}/v1/completions)"
        in caplog.text
    )
