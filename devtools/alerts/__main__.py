"""Triggers every alert of docs/monitoring/alerts.yml on real processes under a real Prometheus, and watches them."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from devtools.alerts.prometheus import RULES, Prometheus
from devtools.alerts.triggers import MAX_SOCKETS, TRIGGERS, LiveChat
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command

#: Seconds to wait for an alert to fire, and for all alerts to end.
PATIENCE = 90.0


def main() -> int:
    """Triggers the alerts; exit status 1 when one does not fire or does not end, or fires while nothing is wrong."""
    parser = argparse.ArgumentParser(prog="make alerts", description=__doc__)
    parser.add_argument("alerts", nargs="*", metavar="ALERT", help="one or more; all by default")
    parser.add_argument("--pace", type=float, default=30, help="how many times faster the rules are than written (30)")
    parser.add_argument("--calm", type=float, default=20, help="seconds at the start in which no alert may fire (20)")
    options = parser.parse_args()
    rules = set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))
    if rules != set(TRIGGERS):
        parser.error(f"a rule without a trigger, or a trigger without a rule: {', '.join(rules ^ set(TRIGGERS))}")
    promtool = shutil.which("promtool")
    if promtool is None:
        parser.error("promtool is not on PATH: apt install prometheus")
    subprocess.run([promtool, "check", "rules", str(RULES)], check=True)
    with ModelServer(tokens=6, record=False) as model:
        port = free_port()
        deployment = Deployment(
            model.url,
            webs=2,
            workers=2,
            celery_broker_url=f"redis://127.0.0.1:{port}/0",
            worker_health_timeout=3,
            model_attempts=1,
            max_sockets=MAX_SOCKETS,
        )
        folder = deployment.folder / "broker"
        folder.mkdir()
        broker = Process("broker", redis_command(port, folder), deployment.env, deployment.folder / "broker.log")
        broker.start()
        try:
            with deployment as chat:
                return _watch(chat, model, broker, options)
        finally:
            broker.kill()


def _watch(chat: Deployment, model: ModelServer, broker: Process, options: argparse.Namespace) -> int:
    live = LiveChat(chat, model, broker)
    bad = False
    urls = [chat.url(0), chat.url(1)]
    with Prometheus(chat.folder / "prometheus", urls, options.pace) as prometheus:
        live.start_talking()
        until = time.monotonic() + options.calm
        while time.monotonic() < until:
            if firing := prometheus.firing():
                print(f"alerts fire while nothing is wrong: {', '.join(sorted(firing))}")
                return 1
            time.sleep(0.5)
        print(f"a healthy deployment under load: no alert in {options.calm:g} s")
        _check_dashboard(prometheus)
        print(f"{'fault':24} {'fires after s':>13} {'calm after s':>12}  also fired")
        for name in options.alerts or TRIGGERS:
            bad = not _try(live, prometheus, name) or bad
        live.stop_talking()
    return 1 if bad else 0


def _try(live: LiveChat, prometheus: Prometheus, name: str) -> bool:
    began = time.monotonic()
    with TRIGGERS[name](live):
        fired_alerts: set[str] = set()

        def fires() -> bool:
            fired_alerts.update(prometheus.firing())
            return name in fired_alerts

        try:
            eventually(fires, PATIENCE, name)
        except AssertionError:
            print(f"{name:24} {'DOES NOT FIRE':>13}", flush=True)
            return False
        fired = time.monotonic() - began
    began = time.monotonic()
    try:
        eventually(lambda: not prometheus.firing(), PATIENCE * 2, "all alerts end")
    except AssertionError:
        print(f"{name:24} {fired:13.1f} {'STILL FIRES':>12}  {', '.join(prometheus.firing())}", flush=True)
        return False
    others = ", ".join(sorted(fired_alerts - {name}))
    print(f"{name:24} {fired:13.1f} {time.monotonic() - began:12.1f}  {others}", flush=True)
    return True


def _check_dashboard(prometheus: Prometheus) -> None:
    """Sends every query of the dashboard to Prometheus, and prints those without a result."""
    panels = json.loads((Path(RULES).parent / "dashboard.json").read_text("utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    empty = [e for e in expressions if not prometheus.query(e.replace("$__rate_interval", "15s"))]
    print(f"dashboard: {len(expressions)} queries, empty while nothing is wrong: {empty}")


if __name__ == "__main__":
    sys.exit(main())
