"""The page's files: read and compressed once, and served at URLs that change when any file changes."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, request

FOLDER = Path(__file__).parent / "static"
#: A URL with a version means the same bytes for ever.
_FOR_EVER = "public, max-age=31536000, immutable"
#: Scripts that are no module, or that the page loads for a formula, code, copying, a file or a search, or when no
#: websocket connects.
_LOADED_LATER = (
    "chat-import.js",
    "clipboard.js",
    "code-colours.js",
    "export.js",
    "maths.js",
    "message-search.js",
    "vendor/katex",
    "vendor/highlight",
    "early.js",
    "client/events.js",
    "client/polling.js",
    "client/posts.js",
)

#: The modules that the start page works with. Each list is preloaded, so that no nested import costs a round trip.
START_MODULES = ("main.js", "page.js", "start-page.js", "storage.js", "client/api.js")

#: The page's style sheets in their order. The page loads them as one, `page.css`: it is shown when it has them all.
_STYLES = ("base", "header", "sidebar", "start-page", "conversation", "text", "composer")

assets = Blueprint("assets", __name__)


@dataclass(frozen=True)
class Asset:
    """The bytes of one file, plain and compressed."""

    mimetype: str
    plain: bytes
    compressed: bytes

    @classmethod
    def read(cls, path: Path) -> Asset:
        return cls.of(path.name, path.read_bytes())

    @classmethod
    def of(cls, name: str, plain: bytes) -> Asset:
        mimetype = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        return cls(mimetype or "text/plain", plain, gzip.compress(plain, 9, mtime=0))


class Assets:
    """The files of a folder, by their path in it. `version` is a hash of all files."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): Asset.read(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        styles = [self._files[f"{name}.css"].plain for name in _STYLES]
        self._files["page.css"] = Asset.of("page.css", b"\n".join(styles))
        digest = hashlib.sha256()
        for name, asset in self._files.items():
            digest.update(f"{name}\0{len(asset.plain)}\0".encode() + asset.plain)
        self.version = digest.hexdigest()[:16]

    def get(self, name: str) -> Asset | None:
        return self._files.get(name)

    @property
    def chat_modules(self) -> list[str]:
        """The modules that a chat needs besides those of the start page."""
        scripts = (name for name in self._files if name.endswith(".js") and not name.startswith(_LOADED_LATER))
        return [name for name in scripts if name not in START_MODULES]


_assets = Assets(FOLDER)


@assets.get("/static/<version>/<path:name>")
def asset(version: str, name: str) -> Response:
    """One file. A page of another version, around an update, gets the current file, which is not cached."""
    found = _assets.get(name)
    if found is None:
        abort(404)
    compress = request.accept_encodings.quality("gzip") > 0
    response = Response(found.compressed if compress else found.plain, mimetype=found.mimetype)
    if compress:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = _FOR_EVER if version == _assets.version else "no-cache"
    return response


@assets.get("/static/client.js")
def client() -> Response:
    """The client for other pages: leads to the current version, next to which the modules are that it imports."""
    return Response(status=302, headers={"Location": f"{_assets.version}/client.js", "Cache-Control": "no-cache"})


def _address(name: str) -> str:
    """A file's address relative to the page's, which may be below a path: `static/…` or, at `/c/ID`, `../static/…`."""
    return "../" * (request.path.count("/") - 1) + f"static/{_assets.version}/{name}"


def add_assets(app: Flask) -> None:
    """Adds the route, and for templates the lists of modules and `asset(name)`, a file's URL relative to the page's."""
    app.register_blueprint(assets)
    app.jinja_env.globals["asset"] = _address
    app.jinja_env.globals["start_modules"] = START_MODULES
    app.jinja_env.globals["chat_modules"] = _assets.chat_modules
