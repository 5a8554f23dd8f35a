"""Installs the package into an empty environment, and holds a chat with it outside of the checkout.

Without options, the chat is with a bot of its own, by the command `chatbot`, whose worker is killed in mid-reply.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment
from devtools.paths import ROOT

#: What the commands of the image find in their working folder.
ENTRY_FILES = ("wsgi.py", "celery_worker.py", "gunicorn.conf.py", "flowerconfig.py")
BOT = """
import time

def reply(conversation, context):
    yield f"Hello {context.name}, you said: {conversation[-1].text}"
    for number in range(100 if conversation[-1].text == "count" else 0):
        time.sleep(0.02)
        yield f" {number}"
    if conversation[-1].text == "block":
        time.sleep(60)
"""
COUNT = "".join(f" {number}" for number in range(100))


def main() -> int:
    """Installs and chats; exit status 1 when a reply is not as it should be."""
    parser = argparse.ArgumentParser(prog="make package", description=__doc__)
    parser.add_argument(
        "--image",
        action="store_true",
        help="install docker/requirements.lock and copy the code, as the Dockerfile does",
    )
    parser.add_argument(
        "--client", action="store_true", help="install the Python client instead, and run the lines of its README"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatbot-package-") as name:
        folder = Path(name)
        app = folder / "app"
        app.mkdir()
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
        if options.client:
            return run_client(folder, pip, environment / "bin" / "python")
        if options.image:
            for file in ENTRY_FILES:
                shutil.copy(ROOT / file, app)
            lock = ROOT / "docker" / "requirements.lock"
            subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(lock)], check=True)
            shutil.copytree(ROOT / "chatbot", app / "chatbot", ignore=shutil.ignore_patterns("__pycache__"))
            return ask(app, environment / "bin")
        subprocess.run([*pip, str(copy_source(folder))], check=True)
        (app / "bot.py").write_text(BOT)
        return ask_bot(app, environment / "bin" / "chatbot")


def ask(app: Path, commands: Path) -> int:
    """Chats with processes that run `commands` in the folder `app`."""
    with ModelServer(tokens=6) as model:
        chat = Deployment(model.url)
        for process in (*chat.webs, *chat.workers):
            process.command[0] = str(commands / Path(process.command[0]).name)
            process.cwd = app
            process.env.pop("PYTHONPATH", None)
        with chat, ChatClient(chat.url()) as client:
            reply = str(client.ask("hello")["msg"])
    print(f"the installed chat answers: {reply}")
    return 0 if reply.startswith("You said: hello") else 1


def ask_bot(app: Path, command: Path) -> int:
    """Chats with the bot in the folder `app`; kills its worker in the middle of a reply, and stops one that blocks."""
    chat = Deployment("")
    for process, name in ((chat.webs[0], "web"), (chat.workers[0], "worker")):
        process.command = [str(command), name, "bot:reply"]
        process.cwd = app
        process.env.pop("PYTHONPATH", None)
    hello = "Hello Ada, you said: "
    with chat, ChatClient(chat.url()) as client:
        answers = [str(client.ask("hello")["msg"]) == f"{hello}hello"]
        client.send("count", "c1")
        client.until("delta")
        began = time.monotonic()
        chat.workers[0].restart()
        answers.append(client.until("message", reply_to="c1")["msg"] == f"{hello}count{COUNT}")
        print(f"the reply whose worker was killed and started again came after {time.monotonic() - began:.1f} s")
        client.send("block", "b1")
        client.until("delta", reply_to="b1")
        began = time.monotonic()
        client.send_frame(type="stop")
        answers.append(client.until("message", reply_to="b1")["finish_reason"] == "stopped")
        print(f"the bot that blocks was stopped after {(time.monotonic() - began) * 1000:.0f} ms")
    print(f"the installed bot answers, is continued by another worker, and is stopped: {answers}")
    return 0 if all(answers) else 1


def run_client(folder: Path, pip: list[str], python: Path) -> int:
    """Installs the wheel of the Python client, and runs the lines of its README against a chat."""
    wheel = build_wheel(folder, Path(shutil.copytree(ROOT / "clients" / "python", folder / "client")))
    subprocess.run([*pip, str(wheel)], check=True)
    lines = (folder / "client" / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    with ModelServer(tokens=6) as model, Deployment(model.url) as chat:
        lines = lines.replace("http://127.0.0.1:5000", chat.url())
        ran = subprocess.run([str(python), "-c", lines], cwd=folder, capture_output=True, text=True, check=False)
    print(ran.stdout + ran.stderr)
    return ran.returncode


def copy_source(folder: Path) -> Path:
    """A copy of the checkout in `folder`: a build writes into its source."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "results")
    return Path(shutil.copytree(ROOT, folder / "source", ignore=ignored))


def build_wheel(folder: Path, source: Path | None = None) -> Path:
    """The wheel of `source`, by default of a copy of the checkout, built in `folder` with the installed setuptools."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source or copy_source(folder))]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    sys.exit(main())
