"""The supervisor behind `make run`: real processes, real signals."""

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from devtools.local.log_stream import LogStream
from devtools.local.service import Service
from devtools.local.supervisor import Supervisor
from devtools.paths import ROOT

T = TypeVar("T")

PATIENCE = 60.0  # seconds, for anything that should happen at once

# The beginning of each supervised program. `say` prints without a buffer.
CHILD = """
import os, pathlib, signal, subprocess, sys, time
def say(*words): print(*words, flush=True)
def linger():
    while True: signal.pause()
def on_term(action): signal.signal(signal.SIGTERM, action)
def start_grandchild(code):
    return subprocess.Popen([sys.executable, "-c", "import os, signal\\n" + code])
say("pid", os.getpid())
"""
LINGER = "linger()"
IGNORES_SIGTERM = "on_term(signal.SIG_IGN); say('ignores'); linger()"

SUPERVISOR = """
import pathlib, signal, sys
# As under a terminal, however the tests were started: under nohup SIGHUP is ignored.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from devtools.local.service import Restarts, Service
from devtools.local.supervisor import Supervisor
from devtools.local.probes import NeverReady, NotReady
def child(name, code, **options):
    return Service(name, [sys.executable, "-c", CHILD + code], **options)
def file_exists(path):
    if not pathlib.Path(path).exists():
        raise NotReady(f"{path} is missing")
def steady():
    return child("steady", "pathlib.Path('up').touch(); linger()", ready=lambda: file_exists("up"))
"""


def poll(check: Callable[[], T], what: str, within: float = PATIENCE) -> T:
    """Returns the first true value of ``check()``."""
    deadline = time.monotonic() + within
    while not (answer := check()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
    return answer


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parent.parent.is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # the process ended between the two calls
        return not stat.parent.parent.joinpath("self").exists()


class Running:
    """A supervisor as a separate process, and its output so far."""

    def __init__(self, code: str, cwd: Path) -> None:
        program = f"CHILD = {CHILD!r}\n{SUPERVISOR}\n{textwrap.dedent(code)}"
        self.popen = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as out:
            self.lines.extend(iter(out.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def sees(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Waits for the ``times``-th match of ``pattern`` (multi-line) in the output."""

        def found() -> re.Match[str] | None:
            matches = list(re.finditer(pattern, self.text, re.MULTILINE))
            return matches[times - 1] if len(matches) >= times else None

        try:
            match = poll(found, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}; output:\n{self.text}") from None
        assert match is not None
        return match

    def pid_of(self, name: str, life: int = 1) -> int:
        return int(self.sees(rf"^{name} *\| pid (\d+)$", life)[1])

    def send(self, signum: int) -> None:
        self.popen.send_signal(signum)

    def status(self) -> int:
        """Waits for the end, and returns the exit status."""
        status = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


Start = Callable[[str], Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start(code: str) -> Running:
        started.append(Running(code, tmp_path))
        return started[-1]

    yield start
    for running in started:
        if running.popen.poll() is None:
            running.popen.kill()
            running.popen.wait()
        for pid in re.findall(r"\| (?:grandchild )?pid (\d+)$", running.text, re.MULTILINE):
            if alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)


def one_child(code: str, options: str = "") -> str:
    return f"sys.exit(Supervisor([child('web', {code!r})]{options}).run())"


def test_a_killed_process_is_named_and_started_again(start: Start) -> None:
    running = start(one_child(LINGER))
    os.kill(running.pid_of("web"), signal.SIGKILL)
    running.sees(r"^run \| web ended \(SIGKILL\): starting it again in 0.5 s$")
    second = running.pid_of("web", life=2)
    running.send(signal.SIGINT)
    assert running.status() == 0
    assert not alive(second)


def test_the_exit_code_of_a_process_is_reported(start: Start) -> None:
    running = start(one_child("say('bye'); sys.exit(7)"))
    running.sees(r"^run \| web ended \(exit code 7\): starting it again")
    assert running.text.index("web | bye") < running.text.index("exit code 7")


def test_the_pause_before_a_restart_grows(start: Start) -> None:
    running = start(one_child("sys.exit(1)", ", restarts=Restarts(first=0.01, longest=0.03)"))
    assert running.status() == 1
    assert re.findall(r"again in (\S+) s", running.text) == ["0.01", "0.02", "0.03", "0.03"]


def test_a_process_that_keeps_dying_ends_everything_by_name(start: Start) -> None:
    running = start(
        """
        processes = [steady(), child("web", "sys.exit(3)", after=["steady"])]
        sys.exit(Supervisor(processes, restarts=Restarts(first=0.01)).run())
        """
    )
    assert running.status() == 1
    cause = f"web ended (exit code 3), for the 5th time within 30 s: pid {running.pid_of('web', life=5)}\n"
    assert f"run    | {cause}run    | giving up" in running.text
    assert running.lines[-1] == f"run    | The cause: {cause}"
    assert len(re.findall(r"^web +\| pid", running.text, re.MULTILINE)) == 5
    assert not alive(running.pid_of("steady"))


def test_a_process_that_dies_before_it_was_ready_ends_everything_by_name(start: Start) -> None:
    running = start(
        """
        code = "say('there is no bot'); say(); sys.exit(3)"
        web = child("web", code, ready=lambda: file_exists("never"), after=["steady"])
        sys.exit(Supervisor([steady(), web]).run())
        """
    )
    assert running.status() == 1
    assert running.lines[-1] == "run    | The cause: web ended (exit code 3) before it was ready: there is no bot\n"
    assert not alive(running.pid_of("steady"))


def test_a_command_that_does_not_exist_is_reported(start: Start) -> None:
    running = start(
        """
        web = Service("web", ["no-such-command"], ready=lambda: file_exists("never"))
        sys.exit(Supervisor([web]).run())
        """
    )
    assert running.status() == 1
    assert "web | cannot run no-such-command: No such file or directory\n" in running.text


def test_a_service_that_is_not_ready_in_time_is_named_with_the_reason(start: Start) -> None:
    running = start(
        """
        never = lambda: file_exists("never")
        web = child("web", "linger()", ready=never, ready_within=0.3, after=["steady"])
        sys.exit(Supervisor([steady(), web]).run())
        """
    )
    assert running.status() == 1
    assert running.lines[-1] == "run    | The cause: web was not ready within 0.3 s: never is missing\n"
    assert not alive(running.pid_of("steady"))


def test_a_probe_can_end_the_wait(start: Start) -> None:
    running = start(
        """
        def hopeless():
            raise NeverReady("it lacks JSON")
        sys.exit(Supervisor([child("redis", "linger()", ready=hopeless)]).run())
        """
    )
    assert running.status() == 1
    assert running.lines[-1] == "run   | The cause: redis will never be ready: it lacks JSON\n"


def test_a_process_starts_only_when_those_before_it_are_ready(start: Start, tmp_path: Path) -> None:
    running = start(
        """
        redis = child("redis", "linger()", ready=lambda: file_exists("redis-is-up"))
        model = child("model", "linger()")
        web = child("web", "linger()", after=["redis", "model"])
        sys.exit(Supervisor([redis, model, web], when_ready="all are up").run())
        """
    )
    running.pid_of("redis")
    running.pid_of("model")
    assert "web" not in running.text
    (tmp_path / "redis-is-up").touch()
    running.sees(r"^run +\| redis is ready\n(.*\n)*run +\| all are up$")
    running.pid_of("web")
    assert running.text.index("redis is ready") < running.text.index("web ")


def test_processes_are_stopped_one_by_one_in_the_given_order(start: Start) -> None:
    running = start(
        """
        code = "on_term(lambda *_: (time.sleep(0.1), say('ends'), sys.exit())); say('up'); linger()"
        processes = [child(name, code) for name in ("redis", "worker", "web")]
        sys.exit(Supervisor(processes, stop_order=["web", "worker", "redis"]).run())
        """
    )
    running.sees(r"\| up$", times=3)
    running.send(signal.SIGINT)
    assert running.status() == 0
    ends = [line.replace(" ", "") for line in running.lines if "end" in line]
    assert ends == [
        "run|Ctrl-C:endingeverything\n",
        *("run|endingweb\n", "web|ends\n"),
        *("run|endingworker\n", "worker|ends\n"),
        *("run|endingredis\n", "redis|ends\n"),
        "run|everythinghasended\n",
    ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_stop_signal_ends_everything_with_status_0(start: Start, signum: int) -> None:
    running = start(one_child(LINGER))
    pid = running.pid_of("web")
    running.send(signum)
    assert running.status() == 0
    assert not alive(pid)


def test_a_terminal_that_closes_ends_everything_though_nothing_is_written_and_no_signal_comes(tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    code = f"CHILD = {CHILD!r}\n{SUPERVISOR}\nsys.exit(Supervisor([steady()]).run())"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as running:
        os.close(terminal)
        with open(controller, "rb", buffering=0) as screen:
            seen = b""
            while b"steady is ready" not in seen:
                seen += screen.read(4096)
        assert running.wait(PATIENCE) == 0


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(start: Start) -> None:
    running = start(f"sys.exit(Supervisor([child('web', {IGNORES_SIGTERM!r}, grace=0.2)]).run())")
    running.sees(r"\| ignores$")
    running.send(signal.SIGTERM)
    assert running.status() == 0
    assert "run | web has not ended in time: killing it\n" in running.text
    assert not alive(running.pid_of("web"))


@pytest.mark.parametrize("parent", [LINGER, IGNORES_SIGTERM])
def test_grandchildren_do_not_outlive_the_stop(start: Start, parent: str) -> None:
    grandchild = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('grandchild pid', os.getpid(), flush=True)\n"
        "while True: signal.pause()"
    )
    code = f"start_grandchild({grandchild!r}); {parent}"
    running = start(f"sys.exit(Supervisor([child('web', {code!r}, grace=0.2)]).run())")
    pid = int(running.sees(r"^web \| grandchild pid (\d+)$")[1])
    running.send(signal.SIGINT)
    assert running.status() == 0
    poll(lambda: not alive(pid), "the grandchild is gone")


def test_grandchildren_do_not_outlive_the_death_of_their_parent(start: Start) -> None:
    grandchild = "print('grandchild pid', os.getpid(), flush=True)\nwhile True: signal.pause()"
    running = start(one_child(f"start_grandchild({grandchild!r}); linger()"))
    pid = int(running.sees(r"^web \| grandchild pid (\d+)$")[1])
    os.kill(running.pid_of("web"), signal.SIGKILL)
    running.sees("starting it again")
    poll(lambda: not alive(pid), "the grandchild is gone")


def test_a_second_ctrl_c_hurries(start: Start) -> None:
    running = start(
        f"""
        processes = [child("redis", {LINGER!r}), child("web", {IGNORES_SIGTERM!r}, grace=60)]
        sys.exit(Supervisor(processes).run())
        """
    )
    running.sees(r"\| ignores$")
    running.pid_of("redis")
    running.send(signal.SIGINT)
    running.sees("ending web")
    running.send(signal.SIGINT)
    running.sees(r"hurrying: ending redis, web at once|hurrying: ending web, redis at once")
    running.send(signal.SIGINT)  # and a third one kills
    running.sees("web has not ended in time: killing it")
    assert running.status() == 0
    assert not alive(running.pid_of("web"))
    assert not alive(running.pid_of("redis"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of the parent")
def test_processes_end_when_the_supervisor_is_killed(start: Start) -> None:
    running = start(one_child(LINGER))
    pid = running.pid_of("web")
    running.send(signal.SIGKILL)
    poll(lambda: not alive(pid), "the process is gone")


def test_a_reader_of_the_log_that_goes_away_ends_everything(tmp_path: Path) -> None:
    # As `make run | head -1` does: the pipe is closed while the process still writes.
    beat = "pathlib.Path('pid').write_text(str(os.getpid()))\nwhile True: say('tick'); time.sleep(0.01)"
    reading, writing = os.pipe()
    program = f"CHILD = {CHILD!r}\n{SUPERVISOR}\n{one_child(beat)}"
    popen = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writing,
    )
    os.close(writing)
    try:
        os.read(reading, 1)
        poll((tmp_path / "pid").exists, "the process runs")
        os.close(reading)
        assert popen.wait(PATIENCE) == 0
    finally:
        popen.kill()
        popen.wait()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_names_that_do_not_fit_together_are_refused() -> None:
    web = Service("web", ["true"])
    with pytest.raises(ValueError, match="differ"):
        Supervisor([web, web])
    with pytest.raises(ValueError, match="stop_order"):
        Supervisor([web], stop_order=["redis"])
    with pytest.raises(ValueError, match="web must come behind"):
        Supervisor([Service("web", ["true"], after=["redis"]), Service("redis", ["true"])])


def test_log_lines_have_a_padded_name_and_no_colour_in_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as out:
        log = LogStream(out, ["web", "worker"], on_gone=lambda: None)
        log.write("web", "one\ntwo")
        log.write("worker", "three")
    assert (tmp_path / "log").read_text() == "web    | one\nweb    | two\nworker | three\n"


def test_log_lines_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    controller, terminal = os.openpty()
    with open(terminal, "w") as out:
        LogStream(out, ["web"], on_gone=lambda: None).write("web", "hello")
        assert b"\x1b[36mweb |\x1b[0m hello" in os.read(controller, 1000)
    os.close(controller)


def test_with_a_file_the_screen_gets_warnings_only() -> None:
    out, file = io.StringIO(), io.StringIO()
    log = LogStream(out, ["redis", "web", "run"], on_gone=lambda: None, file=file)
    for level in ("INFO   ", "WARNING", "ERROR  "):
        log.write("web", f"2026-11-27 06:50:56,440 {level} gunicorn.error: text")
    log.write("web", '{"time": "x", "level": "error", "message": "as JSON"}')
    log.write("redis", "9:M 27 Nov 2026 06:50:49.144 * Configuration loaded")
    log.write("redis", "9:M 27 Nov 2026 06:50:49.144 # Can't save in background: fork: no memory")
    log.write("redis", "9:M 27 Nov 2026 06:50:49.144 # WARNING Memory overcommit must be enabled!")
    log.write(
        "web", "2026-11-27 06:50:56,440 WARNING chatbot.logs: MODEL_ULR is not a setting: did you mean MODEL_URL?"
    )
    log.say("run", "web is ready")
    shown = out.getvalue().splitlines()
    assert [line.split(" ")[-1] for line in shown] == ["text", "text", 'JSON"}', "memory", "ready"]
    assert len(file.getvalue().splitlines()) == 9


def test_a_log_file_that_cannot_be_written_is_reported_and_the_screen_gets_all_lines() -> None:
    out = io.StringIO()
    with open("/dev/full", "w") as file:
        log = LogStream(out, ["web"], on_gone=lambda: None, file=file)
        log.write("web", "one")
        log.write("web", "two")
    assert out.getvalue() == (
        "The log cannot be written (No space left on device): its lines follow here\nweb | one\nweb | two\n"
    )


def test_the_last_lines_of_a_process_that_ended_are_shown_as_such_from_its_file(start: Start, tmp_path: Path) -> None:
    running = start(
        """
        web = child("web", "say('out of luck'); sys.exit(3)", ready=lambda: file_exists("never"))
        sys.exit(Supervisor([web], log_file=open("run.log", "w")).run())
        """
    )
    running.sees(r"^web \| the last lines of web:\nweb \| pid \d+\nweb \| out of luck\nrun \| web ended \(exit code 3")
    assert running.status() == 1
    assert "out of luck" in (tmp_path / "run.log").read_text()
