"""The explorer's server, in Flask, which is imported only here and only once a page is asked for.

It answers GET alone and changes nothing: the page and its parts, `controls` (what can be set), `picture` (a
PNG) and `command` (what draws that picture), the last two by the settings in the query. A mistake in these is
answered with 400 and {"error": a line}.
"""

import contextlib
import importlib.resources
import importlib.util
import ipaddress
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ganjax.errors import RunError, UsageError, one_line
from ganjax.explorer.controls import Controls

if TYPE_CHECKING:
    import flask
    from werkzeug.serving import BaseWSGIServer

PAGE = {
    "index.html": "text/html; charset=utf-8",
    "explorer.css": "text/css; charset=utf-8",
    "explorer.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Explored(NamedTuple):
    """A trained generator as the server knows it.

    Attributes:
      title: a line.
      about: another.
      controls: what can be set.
      draw: flags of --mode=sample -> a PNG file. One call at a time.
      command: the same flags -> the command line that writes that file.
    """

    title: str
    about: str
    controls: Controls
    draw: Callable[[Sequence[str]], bytes]
    command: Callable[[Sequence[str]], str]


class Superseded(Exception):
    """Who asked has asked for something else since."""


class Turns:
    """One at a time; and of what one client waits for, the latest alone."""

    def __init__(self):
        self._numbers = itertools.count()
        self._latest: dict[str, int] = {}  # of those who wait, or whose turn it is
        self._coming, self._turn = threading.Lock(), threading.Lock()

    @contextlib.contextmanager
    def turn(self, client: str) -> Iterator[None]:
        """Raises Superseded where the same client has come again in the meantime."""
        with self._coming:
            number = self._latest[client] = next(self._numbers)
        with self._turn:
            if self._latest.get(client) != number:
                raise Superseded
            try:
                yield
            finally:
                if self._latest.get(client) == number:
                    del self._latest[client]


def check_installed() -> None:
    """Raises RunError where Flask is not."""
    if importlib.util.find_spec("flask") is None:
        raise RunError("--mode=explore needs Flask; install it with: pip install 'ganjax[explore]'")


def create_app(explored: Explored, local: bool = True) -> "flask.Flask":
    """The WSGI application.

    Args:
      explored: what it shows.
      local: it may be addressed as localhost alone, and not by another site's name that leads here (DNS
        rebinding); else by this machine's name too, and by any address, which no site can have for its name.
    """
    import flask
    from werkzeug.exceptions import HTTPException

    app = flask.Flask(__name__, static_folder=None)
    turns = Turns()
    folder = importlib.resources.files("ganjax.explorer") / "page"
    page = {name: ((folder / name).read_bytes(), kind) for name, kind in PAGE.items()}

    @app.before_request
    def check() -> None:
        if not is_trusted(flask.request.host, local):
            flask.abort(403, description="this server is not known by that name; use localhost")
        if flask.request.method not in ("GET", "HEAD"):
            flask.abort(405, description="this server answers GET alone")

    @app.after_request
    def protect(response: Any) -> Any:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Any:
        """One line, whatever it was."""
        code, text = 500, f"this could not be drawn: {one_line(error)}"
        if isinstance(error, HTTPException):
            code, text = error.code or 500, error.description or error.name
        elif isinstance(error, UsageError):
            code, text = 400, str(error)
        elif isinstance(error, Superseded):
            code, text = 409, "another picture was asked for in the meantime"
        else:
            app.logger.error(text, exc_info=error)
        response = flask.jsonify(error=" ".join(str(text).split()))
        response.status_code = code
        return response

    def settings() -> list[str]:
        query = flask.request.args.items(multi=True)
        return explored.controls.flags((name, text) for name, text in query if name != "client")

    @app.get("/", defaults={"name": "index.html"})
    @app.get("/<name>")
    def part(name: str) -> Any:
        if name not in page:
            flask.abort(404, description="there is nothing of that name here")
        content, kind = page[name]
        return flask.Response(content, content_type=kind)

    @app.get("/controls")
    def controls() -> Any:
        return flask.jsonify(title=explored.title, about=explored.about, **explored.controls.json())

    @app.get("/picture")
    def picture() -> Any:
        flags = settings()
        with turns.turn(flask.request.args.get("client", "")[:64]):
            start = time.perf_counter()
            file = explored.draw(flags)
            spent = 1000 * (time.perf_counter() - start)
        headers = {"Server-Timing": f"draw;dur={spent:.1f}"}
        return flask.Response(file, content_type="image/png", headers=headers)

    @app.get("/command")
    def command() -> Any:
        return flask.jsonify(command=explored.command(settings()))

    return app


def is_trusted(host: str, local: bool = True) -> bool:
    """Whether a request may be addressed so, as in its header Host: see `create_app`."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.rpartition(":")[0] if host.count(":") == 1 else host
    name = name.lower()
    if local or is_local(name):
        return is_local(name)
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name in (socket.gethostname().lower(), socket.getfqdn().lower())


def is_local(host: str) -> bool:
    """Whether who listens at this address can be reached from the machine itself alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: at any that is free.

    Raises:
      RunError: it can't be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        instead = "name another --port, or --port=0 for one that is free"
        raise RunError(
            f"can't listen at {host}, port {port}: {error.strerror or error}; {instead}"
        ) from error


def server_of(app: "flask.Flask", listener: socket.socket) -> "BaseWSGIServer":
    """A server that answers several requests at once, and says nothing of them."""
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port = listener.getsockname()[:2]
    return make_server(host, port, app, threaded=True, fd=listener.fileno())
