"""Installs the package into an empty environment, and holds a chat with it outside of the checkout."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment
from devtools.paths import ROOT

#: What the commands of the chat find in their working folder.
ENTRY_FILES = ("wsgi.py", "celery_worker.py", "gunicorn.conf.py", "flowerconfig.py")


def main() -> int:
    """Installs and chats; exit status 1 when there is no reply."""
    parser = argparse.ArgumentParser(prog="make package", description=__doc__)
    parser.add_argument(
        "--image",
        action="store_true",
        help="install docker/requirements.lock and copy the code, as the Dockerfile does",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatbot-package-") as name:
        folder = Path(name)
        app = folder / "app"
        app.mkdir()
        for file in ENTRY_FILES:
            shutil.copy(ROOT / file, app)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
        if options.image:
            lock = ROOT / "docker" / "requirements.lock"
            subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(lock)], check=True)
            shutil.copytree(ROOT / "chatbot", app / "chatbot", ignore=shutil.ignore_patterns("__pycache__"))
        else:
            subprocess.run([*pip, str(copy_source(folder))], check=True)
        reply = ask(app, environment / "bin")
    print(f"the installed chat answers: {reply}")
    return 0 if reply.startswith("You said: hello") else 1


def ask(app: Path, commands: Path) -> str:
    """The reply of a chat whose processes run `commands` in the folder `app`."""
    with ModelServer(tokens=6) as model:
        chat = Deployment(model.url)
        for process in (*chat.webs, *chat.workers):
            process.command[0] = str(commands / Path(process.command[0]).name)
            process.cwd = app
            process.env.pop("PYTHONPATH", None)
        with chat, ChatClient(chat.url()) as client:
            return str(client.ask("hello")["msg"])


def copy_source(folder: Path) -> Path:
    """A copy of the checkout in `folder`: a build writes into its source."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "results")
    return Path(shutil.copytree(ROOT, folder / "source", ignore=ignored))


def build_wheel(folder: Path) -> Path:
    """The wheel, built in `folder` with the installed setuptools."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(copy_source(folder))]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    sys.exit(main())
