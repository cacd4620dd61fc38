"""The explorer's page in a real browser, before a server that draws without a network."""

import io
import threading
import time

import pytest
from PIL import Image

from ganjax.explorer.app import Explored
from ganjax.explorer.controls import Controls
from tests.explorer.browser import PATIENCE, Page, chromium, served

pytest.importorskip("flask")
pytestmark = pytest.mark.slow

ALL = Controls(
    classes=10,
    truncation="psi",
    noise=("random", "const", "none"),
    layers=8,
    directions=(0.5, 0.25, 0.125),
    directions_file="d.npz",
)
SECTIONS = ("of-label", "of-truncation", "of-truncation-mode", "of-noise", "of-mix", "of-directions")


class Pictures:
    """Draws one colour for every list of flags, and keeps the lists."""

    def __init__(self):
        self.drawn: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def draw(self, words) -> bytes:
        assert self.go.wait(60)
        self.drawn.append(" ".join(words))
        file = io.BytesIO()
        Image.new("RGB", (36, 36), tuple(self.drawn[-1].encode()[-3:])).save(file, "PNG")
        return file.getvalue()


def explored(controls: Controls, pictures: Pictures) -> Explored:
    return Explored("toy", "a toy", controls, pictures.draw, lambda words: "run " + " ".join(words))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture
def page(driver, pictures):
    with served(explored(ALL, pictures)) as address:
        page = Page(driver, address)
        page.wait()
        yield page
        assert page.complaints() == []


def test_controls_are_set_by_keyboard(page, pictures):
    from selenium.webdriver.common.keys import Keys

    assert page["title"].text == "toy"
    page.press("seed", Keys.ARROW_UP, Keys.ARROW_UP)
    assert page.wait("seed=2") == "seed=2&label=0"
    page.press("label", "7")
    page.wait("label=7")
    page.press("truncates", Keys.SPACE)
    page.wait("truncation=0.7")
    page.press("truncation", Keys.ARROW_LEFT)
    page.wait("truncation=0.65")
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.wait("noise=const")
    page.press("mixes", Keys.SPACE)
    page.wait("mix_seed=1", "mix_layers=4-7")
    page.press("mix_last", *[Keys.ARROW_LEFT] * 5)
    page.wait("mix_layers=2-2")
    page.press("direction_1", Keys.ARROW_LEFT)
    page.wait("direction_1=-0.1")
    expected = "--seeds=2 --labels=7 --truncation=0.65 --noise=const --mix=1:2-2"
    assert pictures.drawn[-1] == f"{expected} --directions=d.npz --move=1:-0.1"
    page["centre"].click()
    page.wait("mix_layers=2-2")
    assert page["picture"].get_attribute("alt") == "What the generator makes of seed 2, class 7"


def test_the_command_is_of_the_picture_that_is_seen(page, pictures):
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {
            "origin": page.address.rstrip("/"),
            "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"],
        },
    )
    assert not page["command"].is_displayed()
    page["show"].click()
    assert page.text_of("command") == f"run {pictures.drawn[-1]}"
    wait_for(lambda: page["copied"].text == "Copied")
    read = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))"
    assert page.driver.execute_async_script(read) == page["command"].text
    page["next"].click()
    page.wait("seed=1")
    wait_for(lambda: page["command"].text == "run --seeds=1 --labels=0")


def wait_for(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_while_one_is_drawn_the_latest_wins(page, pictures):
    pictures.go.clear()
    for _ in range(30):
        page["next"].click()
    pictures.go.set()
    assert page.wait("seed=30") == "seed=30&label=0"
    assert len(pictures.drawn) < 10
    assert "ms" in page["status"].text


def test_the_address_keeps_what_is_set(page, pictures):
    query = "seed=3&label=2&truncation=0.5&noise=none&mix_seed=9&mix_layers=1-6&direction_2=-1.5"
    page.driver.get(page.address + "?" + query)
    assert page.wait("seed=3") == query
    assert page.driver.current_url == page.address + "?" + query


def test_what_is_wrong_is_said(page, pictures):
    from selenium.webdriver.common.keys import Keys

    page.press("seed", Keys.BACKSPACE, "-4")
    wait_for(lambda: "whole number" in page["status"].text)
    assert len(pictures.drawn) == 1


def test_nothing_comes_from_elsewhere(page):
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    names = page.driver.execute_script(script)
    assert len(names) >= 4
    assert [name for name in names if not name.startswith((page.address, "blob:" + page.address))] == []
    inline = (
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.broken = 1'}))"
    )
    page.driver.execute_script(inline)
    assert page.driver.execute_script("return window.broken") is None
    assert any("Content Security Policy" in line for line in page.complaints())


def test_what_a_model_has_no_means_for_is_not_there(driver, pictures):
    with served(explored(Controls(), pictures)) as address:
        page = Page(driver, address)
        assert page.wait() == "seed=0"
        assert [name for name in SECTIONS if page.has(name)] == []
    bound = Controls(truncation="bound", truncation_modes=("resample", "clamp"))
    with served(explored(bound, pictures)) as address:
        page = Page(driver, address)
        page.wait()
        assert [name for name in SECTIONS if page.has(name)] == ["of-truncation", "of-truncation-mode"]


@pytest.mark.parametrize("width", [360, 800, 1200])
def test_every_width_will_do(page, width):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        inside, whole = page.driver.execute_script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        assert width - 30 < inside <= width  # but for the bar
        assert whole <= inside
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(page):
    """As those hear it who do not see it."""
    for kind in ("input", "select", "button"):
        for element in page.driver.find_elements("css selector", f"main {kind}"):
            assert element.accessible_name, element.get_attribute("outerHTML")
