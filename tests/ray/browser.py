"""A headless Chromium for tests, driven by the WebDriver protocol."""

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.ports import free_port

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's reference in the WebDriver protocol

_DROP = """
const [selector, name, text] = arguments, data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
return ["dragover", "drop"].map((kind) => {
  const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(event);
  return event.defaultPrevented;
});
"""


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver, self._session = driver, session

    def go(self, url: str) -> None:
        self._call("POST", "url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self._call("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str, *, timeout_s: float = 120) -> Any:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.run(f"return {condition}")):
            assert time.monotonic() < deadline, (condition, self.run("return document.body.innerText"))
            time.sleep(0.1)
        return found

    def click(self, selector: str) -> None:
        self._call("POST", f"element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into a field, or choose a file."""
        self._call("POST", f"element/{self._find(selector)}/value", {"text": text})

    def drop(self, selector: str, file: Path) -> None:
        """Drop a file onto an element, as by a hand; the page must take it, or the browser would leave for it."""
        taken = self.run(_DROP, selector, file.name, base64.b64encode(file.read_bytes()).decode())
        assert taken == [True, True], taken

    def drag(self, selector: str, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Press, move and let go: CSS px from the element's middle."""
        origin = {_ELEMENT: self._find(selector)}

        def move(to: tuple[int, int]) -> dict[str, Any]:
            return {"type": "pointerMove", "origin": origin, "x": to[0], "y": to[1], "duration": 50}

        steps = [move(start), {"type": "pointerDown", "button": 0}, move(end), {"type": "pointerUp", "button": 0}]
        self._call("POST", "actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": steps}]})

    def resize(self, width: int, height: int) -> None:
        self._call("POST", "window/rect", {"width": width, "height": height})

    def media(self, theme: str) -> None:
        """Ask for light or dark pages, as a person's settings do."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._call("POST", "goog/cdp/execute", command)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "screenshot")))

    def errors(self) -> list[str]:
        """What went wrong on the page."""
        said = self._call("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in said if entry["level"] == "SEVERE"]

    def _find(self, selector: str) -> str:
        return self._call("POST", "element", {"using": "css selector", "value": selector})[_ELEMENT]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._driver.request(method, f"/session/{self._session}/{path}", json=body)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value


@contextmanager
def browser(profile: Path, *, downloads: Path, size: tuple[int, int] = (1440, 900)) -> Iterator[Browser]:
    """A window whose downloads go to a folder, with a camera that shows a moving test picture."""
    assert CHROMIUM and DRIVER
    port = free_port()
    flags = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        f"--window-size={size[0]},{size[1]}", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
    ]  # fmt: skip
    options = {
        "binary": CHROMIUM,
        "args": flags,
        "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
    }
    process = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as driver:
            _wait_until_up(driver)
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = driver.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in made, made
            try:
                yield Browser(driver, made["sessionId"])
            finally:
                driver.delete(f"/session/{made['sessionId']}")
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_up(driver: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            driver.get("/status")
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "chromedriver did not start"
            time.sleep(0.05)
