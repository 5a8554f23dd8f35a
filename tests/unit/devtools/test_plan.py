"""What `make run` checks and decides before it starts anything."""

import fcntl
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devtools.harness.ports import free_port
from devtools.local import llama_server, plan, probes, redis_server
from devtools.local.command import check_redis, locked, new_log
from devtools.local.plan import CannotRun, Ports, child_environment, hide_secrets, make_plan, read_ports
from devtools.local.ports import why_unusable
from devtools.paths import BIN, ROOT

ELSEWHERE = {
    "REDIS_URL": "redis://elsewhere/0",
    "MODEL_URL": "http://elsewhere/v1",
}  # neither Redis nor a model is started here


@pytest.fixture
def ports_env() -> dict[str, str]:
    """Four free ports, by the names of their settings."""
    names = ["PORT", "FLOWER_PORT", "REDIS_PORT", "LOCAL_MODEL_PORT"]
    return {name: str(free_port()) for name in names}


@pytest.fixture(autouse=True)
def pretended_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets planning find a Redis and a model on any machine; no test here starts them."""
    monkeypatch.setattr(redis_server, "_find_server", lambda: (Path("/redis-server"), None))
    monkeypatch.setattr(llama_server, "find_model", lambda: Path("/model.gguf"))


def test_everything_is_started_by_default(ports_env: dict[str, str], tmp_path: Path) -> None:
    planned = make_plan(ports_env, tmp_path / "data")
    assert [service.name for service in planned.services] == [
        *("redis", "model"),
        *("web", "worker", "flower"),
    ]
    assert planned.stop_order == ("web", "flower", "worker", "model", "redis")
    for service in planned.services:
        assert service.after == (() if service.name in ("redis", "model") else ("redis", "model"))
    assert (tmp_path / "data" / "redis").is_dir()
    assert f"http://127.0.0.1:{ports_env['PORT']}\n" in planned.welcome
    assert f"http://127.0.0.1:{ports_env['FLOWER_PORT']}\n" in planned.welcome
    assert "Ctrl-C ends everything" in planned.welcome


def test_a_folder_that_cannot_be_written_is_named(ports_env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder, call in ((file / "data", lambda f: make_plan(ports_env, f)), (file, lambda f: locked(f).__enter__())):
        with pytest.raises(CannotRun, match=f"{folder} cannot be written .*: set LOCAL_DATA_DIR to another folder"):
            call(folder)


def test_a_disk_that_is_full_is_named(
    ports_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LEAST_FREE", 10**20)
    with pytest.raises(CannotRun, match=rf"^{tmp_path} has \d+ MB free, 100000000000000 are needed: make room, or set"):
        make_plan(ports_env, tmp_path)


def test_the_commands_come_from_this_python_installation(ports_env: dict[str, str], tmp_path: Path) -> None:
    commands = {s.name: [*s.command] for s in make_plan(ports_env, tmp_path).services}
    celery = [str(BIN / "celery"), "-A", "celery_worker"]
    assert commands["web"] == [str(BIN / "gunicorn"), "wsgi:app"]
    assert commands["worker"] == [*celery, "worker", "--loglevel=INFO"]
    assert commands["flower"] == [*celery, "flower"]


@pytest.mark.parametrize("name", ["REDIS_URL", "REDIS_HOST"])
def test_a_redis_that_is_named_is_used_instead(ports_env: dict[str, str], tmp_path: Path, name: str) -> None:
    env = {**ports_env, name: "elsewhere", "REDIS_PORT": "6380"}
    planned = make_plan(env, tmp_path)
    assert "redis" not in [service.name for service in planned.services]
    assert "redis" not in planned.stop_order
    for service in planned.services:
        assert service.env is not None
        assert service.env.get("REDIS_URL") == env.get("REDIS_URL")
        assert service.env["REDIS_PORT"] == "6380"
    assert planned.remarks == [f"{name} is set: using the Redis at elsewhere"]


def test_misspelled_settings_are_named_those_of_make_run_included(ports_env: dict[str, str], tmp_path: Path) -> None:
    env = {**ports_env, "MODEL_ULR": "x", "LOCAL_DATA_DRI": "y", "LOCAL_DATA_DIR": "z"}
    assert make_plan(env, tmp_path).remarks == [
        "MODEL_ULR is not a setting: did you mean MODEL_URL?",
        "LOCAL_DATA_DRI is not a setting: did you mean LOCAL_DATA_DIR?",
    ]


def test_a_redis_that_is_named_and_does_not_answer_ends_the_run_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.0)
    check_redis({})
    with pytest.raises(
        CannotRun, match=r"^no Redis answers where REDIS_URL says: .*127\.0\.0\.1:9.*\nWithout REDIS_URL"
    ):
        check_redis({"REDIS_URL": "redis://127.0.0.1:9/0"})


def test_a_model_that_is_named_is_used_instead(ports_env: dict[str, str], tmp_path: Path) -> None:
    planned = make_plan({**ports_env, "MODEL_URL": "https://me:secret@host/v1?key=secret"}, tmp_path)
    assert "model" not in [service.name for service in planned.services]
    for service in planned.services:
        assert service.env is not None
        assert "MODEL_API" not in service.env
        assert "MAX_NEW_TOKENS" not in service.env
    assert planned.remarks == ["MODEL_URL is set: using the model at https://***@host/v1?***"]


def test_a_bot_of_ones_own_is_used_instead(ports_env: dict[str, str], tmp_path: Path) -> None:
    planned = make_plan({**ports_env, "MODEL_URL": "", "MODEL_CALLABLE": "bot:reply"}, tmp_path)
    assert "model" not in [service.name for service in planned.services]
    for service in planned.services:
        assert service.env is not None
        assert service.env["MODEL_CALLABLE"] == "bot:reply"
        assert not {"MODEL_API", "MODEL_URL", "MODEL_NOTE"} & set(service.env)
    assert planned.remarks == ["MODEL_CALLABLE is set: replies come from bot:reply"]


def test_an_empty_setting_counts_as_not_set(ports_env: dict[str, str], tmp_path: Path) -> None:
    env = {
        **ports_env,
        "REDIS_URL": "",
        "REDIS_HOST": " ",
        "MODEL_URL": "",
        "MAX_NEW_TOKENS": "",
        "WEB_CONCURRENCY": "",
    }
    planned = make_plan(env, tmp_path)
    assert {"redis", "model"} <= {service.name for service in planned.services}
    for service in planned.services:
        assert service.env is not None
        assert "WEB_CONCURRENCY" not in service.env  # gunicorn itself would fail with an empty value


def test_the_children_find_each_other_and_keep_everything_else() -> None:
    env = {"HOME": "/home/ada", "MODEL_NAME": "EleutherAI/gpt-j-6B", "HISTORY_MESSAGES": "8"}
    children = child_environment(env, Ports(web=1, flower=2, redis=3, model=4))
    assert children == {
        "HOME": "/home/ada",
        "HISTORY_MESSAGES": "8",
        "PYTHONUNBUFFERED": "1",
        "PORT": "1",
        "FLOWER_PORT": "2",
        "FLOWER_ADDRESS": "127.0.0.1",
        "WORKER_SHUTDOWN_TIMEOUT": "2",
        "LOG_FORMAT": "text",
        "REDIS_URL": "redis://127.0.0.1:3/0",
        "MODEL_URL": "http://127.0.0.1:4/v1/chat/completions",
        "MODEL_API": "openai-chat",
        "MODEL_NAME": "SmolLM2-135M-Instruct",
        "MAX_NEW_TOKENS": "256",
        "SYSTEM_PROMPT": "You are a helpful assistant.",
        "TEMPERATURE": "0",
        "MODEL_NOTE": plan.MODEL_NOTE,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def test_settings_of_the_user_win_over_those_of_the_local_model() -> None:
    children = child_environment({"MAX_NEW_TOKENS": "32", "NO_PROXY": "x"}, Ports(1, 2, 3, 4))
    assert children["MAX_NEW_TOKENS"] == "32"
    assert children["no_proxy"] == "x,127.0.0.1,localhost"


def test_all_ports_in_use_are_named_at_once(ports_env: dict[str, str]) -> None:
    with ExitStack() as stack:
        for port in ports_env.values():
            stack.enter_context(socket.create_server(("127.0.0.1", int(port))))
        problems: list[str] = []
        read_ports(ports_env, problems)
    assert len(problems) == 5
    for problem, (name, port) in zip(problems, ports_env.items(), strict=False):
        assert problem.startswith(f"Port {port} is in use: set {name} to another one, for example: {name}=")
        assert " make run" in problem
    assert f"REDIS_URL=redis://127.0.0.1:{ports_env['REDIS_PORT']}/0" in problems[2]
    suggested = dict(word.split("=") for word in problems[4].split() if "=" in word)
    assert suggested.keys() == ports_env.keys()
    assert len({*suggested.values(), *ports_env.values()}) == 8


def test_settings_that_are_not_port_numbers_are_named(ports_env: dict[str, str]) -> None:
    problems: list[str] = []
    read_ports({**ports_env, "PORT": "http", "FLOWER_PORT": "0", "REDIS_PORT": "65536"}, problems)
    assert problems == [
        "PORT is 'http', not a port number (1 to 65535)",
        "FLOWER_PORT is '0', not a port number (1 to 65535)",
        "REDIS_PORT is '65536', not a port number (1 to 65535)",
    ]


def test_two_services_with_one_port_are_named(ports_env: dict[str, str]) -> None:
    problems: list[str] = []
    read_ports({**ports_env, **ELSEWHERE, "FLOWER_PORT": ports_env["PORT"]}, problems)
    (problem,) = problems
    assert problem.startswith(f"Port {ports_env['PORT']} is already that of PORT: set FLOWER_PORT to another")


def test_ports_of_services_that_are_not_started_are_not_checked(ports_env: dict[str, str]) -> None:
    problems: list[str] = []
    chosen = read_ports({**ports_env, **ELSEWHERE, "REDIS_PORT": "x", "LOCAL_MODEL_PORT": "x"}, problems)
    assert problems == []
    assert (chosen.redis, chosen.model) == (None, None)


def test_a_port_with_a_listener_on_all_addresses_is_in_use() -> None:
    with socket.create_server(("", 0)) as server:
        assert why_unusable(server.getsockname()[1]) == "is in use"


def test_a_missing_redis_and_a_port_in_use_are_reported_together(
    ports_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[Path, Path | None]:
        raise redis_server.RedisNotFound

    monkeypatch.setattr(redis_server, "_find_server", none)
    with socket.create_server(("127.0.0.1", int(ports_env["PORT"]))), pytest.raises(CannotRun) as caught:
        make_plan(ports_env, tmp_path / "data")
    assert "is in use" in caught.value.problems[0]
    assert "docker run" in caught.value.problems[1]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:s3cret@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://ada:p@ss/w@host", "rediss://***@host"),
        ("https://host/v1?key=s3cret", "https://host/v1?***"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert hide_secrets(url) == shown


def run(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "-m", "devtools.local"],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_with_a_port_in_use_nothing_is_started(tmp_path: Path) -> None:
    web, flower = free_port(), free_port()
    with socket.create_server(("127.0.0.1", web)), socket.create_server(("127.0.0.1", flower)):
        ended = run(tmp_path, **ELSEWHERE, PORT=str(web), FLOWER_PORT=str(flower))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"Port {web} is in use: set PORT to another one, for example: PORT=" in ended.stderr
    assert f"Port {flower} is in use: set FLOWER_PORT to another one" in ended.stderr
    assert not (tmp_path / ".data").exists()


def test_settings_come_from_the_env_file_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=from-file\nFLOWER_PORT=from-file\n")
    ended = run(tmp_path, **ELSEWHERE, PORT="from-environment")
    assert ended.returncode == 1
    assert ended.stderr == (
        "PORT is 'from-environment', not a port number (1 to 65535)\n"
        "FLOWER_PORT is 'from-file', not a port number (1 to 65535)\n"
    )


def test_an_unusable_env_file_ends_the_run_with_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MODEL_NAME=caf\u00e9".encode("latin-1"))
    ended = run(tmp_path, **ELSEWHERE)
    assert ended.returncode == 1
    assert ended.stderr == ".env is not UTF-8: save it as UTF-8\n"


def test_another_run_in_the_folder_is_named_rather_than_the_ports_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    with (tmp_path / ".data" / "lock").open("a") as lock, socket.create_server(("127.0.0.1", free_port())) as web:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = run(tmp_path, **ELSEWHERE, PORT=str(web.getsockname()[1]))
    assert ended.returncode == 1
    assert ended.stderr.startswith("Another `make run` uses ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("WEB_CONCURRENCY", "many"), ("FLOWER_PORT", "x"), ("MODEL_TIMEOUT", "abc"), ("REDIS_PORT", "x")],
)
def test_an_invalid_setting_ends_the_run_with_one_line_that_names_it(
    ports_env: dict[str, str], tmp_path: Path, name: str, value: str
) -> None:
    ended = run(tmp_path, **{**ports_env, **ELSEWHERE, name: value})
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"{name} ")
    assert ended.stderr.count("\n") == 1


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the status and body that the test sets."""

    status = 200
    body: object = {}

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps(self.body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@pytest.fixture
def web_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(Answers, "status", 200)
    monkeypatch.setattr(Answers, "body", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_web_server_is_ready_when_it_answers_200(web_port: int) -> None:
    probes.http_answers(web_port, "/readyz")
    Answers.status, Answers.body = 503, {"status": "not ready", "redis": "is down", "redisjson": "ok", "workers": None}
    with pytest.raises(probes.NotReady, match=r"^GET /readyz answers 503: redis is down$"):
        probes.http_answers(web_port, "/readyz")


def test_the_worker_is_ready_when_one_is_counted_or_workers_are_not_counted(web_port: int) -> None:
    probes.workers_answer(web_port)
    Answers.body = {"workers": 1}
    probes.workers_answer(web_port)
    Answers.body = {"workers": 0}
    with pytest.raises(probes.NotReady, match="no worker has answered"):
        probes.workers_answer(web_port)


def test_a_web_server_that_does_not_answer_is_not_ready() -> None:
    port = free_port()
    with pytest.raises(probes.NotReady):
        probes.http_answers(port, "/readyz")
    with pytest.raises(probes.NotReady):
        probes.workers_answer(port)


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        with new_log(tmp_path / "run.log") as log:
            log.write(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "run.log": "third",
        "run.previous.log": "second",
    }
