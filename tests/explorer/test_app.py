"""The explorer's server, through Flask's test client: without a browser, and without a network to draw."""

import itertools
import socket
import threading
import time

import pytest

from ganjax.errors import RunError, UsageError
from ganjax.explorer import app as explorer
from ganjax.explorer.app import Explored, create_app, is_local, is_trusted, listening
from ganjax.explorer.controls import Controls

flask = pytest.importorskip("flask")
CONTROLS = Controls(classes=3, truncation="psi")


def told(words) -> bytes:
    return " ".join(words).encode()


def client(draw=told, local=True):
    command = lambda words: "run " + " ".join(words)  # noqa: E731
    return create_app(Explored("toy", "a toy", CONTROLS, draw, command), local).test_client()


def test_the_page_comes_from_the_package_and_loads_nothing_from_elsewhere():
    page = client().get("/")
    assert page.status_code == 200
    for name in ("explorer.js", "explorer.css", "icon.svg"):
        assert f'"{name}"' in page.text
        part = client().get(f"/{name}")
        assert part.status_code == 200
        assert "http://" not in part.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in part.text
    assert "//" not in page.text
    assert client().get("/explorer.js").content_type == "text/javascript; charset=utf-8"


def test_every_answer_has_a_strict_policy():
    for address in ("/", "/controls", "/picture", "/picture?seed=x", "/nothing"):
        headers = client().get(address).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_picture_and_its_command_are_of_the_same_flags():
    query = "seed=5&label=2&truncation=0.7"
    picture = client().get(f"/picture?{query}&client=me")
    assert (picture.status_code, picture.content_type) == (200, "image/png")
    assert picture.data == b"--seeds=5 --labels=2 --truncation=0.7"
    assert picture.headers["Server-Timing"].startswith("draw;dur=")
    assert client().get(f"/command?{query}").json == {"command": f"run {picture.text}"}
    assert client().get("/controls").json == {"title": "toy", "about": "a toy", **CONTROLS.json()} | {
        "directions": [],
        "truncation_modes": [],
        "noise": [],
    }


@pytest.mark.parametrize("address", ["/picture?seed=-1", "/command?seed=-1"])
def test_a_mistake_is_one_line_with_400(address):
    answer = client().get(address)
    assert answer.status_code == 400
    assert answer.json == {"error": "seed=-1: expected an integer from 0 to 4294967295"}


def test_what_drawing_refuses_or_fails_at_is_one_line_too(caplog):
    def refuse(words):
        raise UsageError("no\nsuch thing")

    def fail(words):
        raise RuntimeError("out\nof memory")

    answer = client(refuse).get("/picture")
    assert (answer.status_code, answer.json) == (400, {"error": "no such thing"})
    answer = client(fail).get("/picture")
    assert (answer.status_code, answer.json) == (500, {"error": "this could not be drawn: out of memory"})
    assert "Traceback" in caplog.text  # for who started it
    assert client(fail).get("/controls").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
def test_nothing_can_be_changed(method):
    for address in ("/", "/picture", "/nothing"):
        answer = getattr(client(), method)(address)
        assert (answer.status_code, answer.json) == (405, {"error": "this server answers GET alone"})


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.7"])
def test_another_name_that_leads_here_is_refused(host):
    """DNS rebinding."""
    for address in ("/", "/controls", "/picture"):
        answer = client().get(address, headers={"Host": host})
        assert answer.status_code == 403
        assert "localhost" in answer.text


def test_names_of_this_machine():
    for host in (
        "localhost",
        "localhost:9000",
        "LOCALHOST:80",
        "127.1.2.3:80",
        "127.0.0.1:8000",
        "[::1]:8000",
    ):
        assert is_trusted(host)
        assert is_trusted(host, local=False)
    assert is_trusted("10.0.0.7:8000", local=False)
    assert not is_trusted("10.0.0.7:8000")
    assert is_trusted(f"{socket.gethostname()}:8000", local=False)
    for host in ("evil.example", "evil.example:8000", "10.0.0.7.evil.example", "", ":8000"):
        assert not is_trusted(host)
        assert not is_trusted(host, local=False)


def test_what_is_local():
    assert [host for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1") if not is_local(host)] == []
    assert [host for host in ("0.0.0.0", "::", "10.0.0.7", "example.org") if is_local(host)] == []


def test_of_what_waits_the_latest_is_drawn():
    drawn, begun, go = [], threading.Event(), threading.Event()

    def draw(words):
        drawn.append(words[0])
        begun.set()
        assert go.wait(10)
        return told(words)

    app = create_app(Explored("toy", "", CONTROLS, draw, " ".join))
    answers = {}

    def ask(seed, name):
        answers[seed] = app.test_client().get(f"/picture?seed={seed}&client={name}")

    threads = []
    for seed, name in ((1, "me"), (2, "me"), (3, "other"), (4, "me")):
        threads.append(threading.Thread(target=ask, args=(seed, name)))
        threads[-1].start()
        assert begun.wait(10)
        time.sleep(0.1)  # so that they wait in this order
    go.set()
    for thread in threads:
        thread.join(10)
    assert {seed: answer.status_code for seed, answer in answers.items()} == {1: 200, 2: 409, 3: 200, 4: 200}
    assert drawn[0] == "--seeds=1"
    assert set(drawn) == {"--seeds=1", "--seeds=3", "--seeds=4"}
    assert "in the meantime" in answers[2].text


def test_turns_forget_who_has_been():
    turns = explorer.Turns()
    for client, _ in itertools.product("abc", range(3)):
        with turns.turn(client):
            pass
    assert turns._latest == {}


def test_a_port_that_is_taken():
    with (
        listening("localhost", 0) as first,
        pytest.raises(RunError, match=r"^can't listen at localhost, port \d+: .*; name another --port"),
    ):
        listening("localhost", first.getsockname()[1])


def test_an_address_that_is_none_of_this_machine():
    with pytest.raises(RunError, match=r"^can't listen at 192\.0\.2\.1, port 0"):
        listening("192.0.2.1", 0)


def test_without_flask(monkeypatch):
    monkeypatch.setattr(explorer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pip install 'ganjax\[explore\]'"):
        explorer.check_installed()
