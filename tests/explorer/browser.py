"""A real browser: the system's chromium, without a window, driven by selenium; nothing is downloaded."""

import contextlib
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ganjax.explorer import app
from ganjax.explorer.app import Explored

PATIENCE = 60  # seconds that the page may take to show what was asked for


@contextlib.contextmanager
def chromium(profile: pathlib.Path, *, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A driver; the test is skipped where there is no browser."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless=new",
        "--no-sandbox",  # which root can't have
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    started = webdriver.Chrome(options=options, service=service)
    try:
        started.set_script_timeout(PATIENCE)
        yield started
    finally:
        started.quit()


@contextlib.contextmanager
def served(explored: Explored) -> Iterator[str]:
    """The page's address, while it is served."""
    listener = app.listening("localhost", 0)
    server = app.server_of(app.create_app(explored), listener)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{listener.getsockname()[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        listener.close()


class Page:
    """The explorer in a browser."""

    def __init__(self, driver: Any, address: str):
        self.driver, self.address = driver, address
        driver.get(address)

    def __getitem__(self, name: str) -> Any:
        """The element of that id."""
        return self.driver.find_element("id", name)

    def has(self, name: str) -> bool:
        return bool(self.driver.find_elements("id", name))

    def press(self, name: str, *keys: str) -> None:
        """Presses keys where an element has the focus."""
        self[name].send_keys(*keys)

    def wait(self, *parts: str) -> str:
        """The query of the picture that is seen, once it has these parts."""
        from selenium.webdriver.support.wait import WebDriverWait

        def seen(_: Any) -> str | None:
            query = self["picture"].get_attribute("data-query") or ""
            return query if set(parts) <= set(query.split("&")) and query else None

        return str(WebDriverWait(self.driver, PATIENCE, 0.05).until(seen, f"no picture of {parts}"))

    def text_of(self, name: str) -> str:
        """What an element says, once it says something."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: self[name].text)

    def pixels(self) -> bytes:
        """The picture that is seen, RGBA, row by row."""
        script = """
            const image = document.getElementById("picture");
            const [width, height] = [image.naturalWidth, image.naturalHeight];
            const canvas = Object.assign(document.createElement("canvas"), { width, height });
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return Array.from(context.getImageData(0, 0, width, height).data);
        """
        return bytes(self.driver.execute_script(script))

    def file(self) -> bytes:
        """The file that the page was given, asked for once more."""
        query = self["picture"].get_attribute("data-query")
        script = """
            fetch("picture?" + arguments[0])
              .then((answer) => answer.arrayBuffer())
              .then((buffer) => arguments[1](Array.from(new Uint8Array(buffer))));
        """
        return bytes(self.driver.execute_async_script(script, query))

    def complaints(self) -> list[str]:
        """What the browser complained of: errors of the script, what the policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]
