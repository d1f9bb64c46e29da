"""Chromium, driven over its DevTools pipe: real mouse, keys and touch, and no package to install."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--remote-debugging-pipe",
]
KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
KEYS |= {"End": 35, "Home": 36, "Tab": 9}


NAMED = {"image", "region", "navigation", "button", "link", "slider", "checkbox", "combobox", "searchbox", "textbox"}
LAPSES = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = share => share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = one => {
    const [r, g, b, alpha = 1] = channels(getComputedStyle(one).backgroundColor);
    return alpha === 1 ? [r, g, b] : ground(one.parentElement);
  };
  const contrast = (one, style) => {
    const text = channels(one instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [luminance(text), luminance(ground(one))].sort((a, b) => a - b);
    return text[3] === 0 ? 21 : (high + 0.05) / (low + 0.05);
  };
  const found = [];
  for (const one of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(one), size = parseFloat(style.fontSize);
    if (!one.checkVisibility({visibilityProperty: true})) continue;
    const name = `${one.tagName} ${one.getAttribute("class") ?? ""} ${one.textContent.slice(0, 40)}`;
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
    if (own && contrast(one, style) < least) found.push(`${name} is faint: ${contrast(one, style).toFixed(2)}`);
    const scrolls = [["overflowX", "Width"], ["overflowY", "Height"]].some(
      ([flow, side]) => ["auto", "scroll"].includes(style[flow]) && one[`scroll${side}`] > one[`client${side}`]);
    if (scrolls && one.tabIndex < 0 && !one.querySelector("a, button, input, select, [tabindex='0']"))
      found.push(`${name} scrolls and takes no focus`);
  }
  return found;
})()"""


class Browser:
    """Chromium; every call waits for its answer."""

    def __init__(self, pipe: socket.socket) -> None:
        self.pipe, self.answers, self.number = pipe, pipe.makefile("rb"), 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **values: Any) -> dict[str, Any]:
        self.number += 1
        command = {"id": self.number, "method": method, "params": values}
        if session:
            command["sessionId"] = session
        self.pipe.sendall(json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self.number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def _message(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser is gone"
            text += byte
        return json.loads(text)

    @contextmanager
    def tab(self) -> Iterator["Page"]:
        """A tab in a context of its own: it shares nothing with those before it."""
        self.events.clear()
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield Page(self, session)
        self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One tab; every call waits for the browser's answer."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **values)

    def open(self, url: str, width: int = 1280, height: int = 800, **media: str) -> None:
        """Loads a page of a size, with CSS media features such as prefers_color_scheme="dark"."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.run("document.readyState === 'complete' || new Promise(done => addEventListener('load', done))")
        self.settle()

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self) -> None:
        """Waits for what was asked to be drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind: str, x: float, y: float, **values: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **values)
        self.settle()

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="none" if kind == "mouseMoved" else "left", clickCount=1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=touches)
        self.settle()

    def key(self, key: str, modifiers: int = 0) -> None:
        text = {"text": "\r" if key == "Enter" else key} if key not in KEYS or key == "Enter" else {}
        code = {"windowsVirtualKeyCode": KEYS.get(key, ord(key[0])), "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)
        self.settle()

    def write(self, text: str) -> None:
        self.call("Input.insertText", text=text)
        self.settle()

    def lapses(self) -> list[str]:
        """What of the basics of accessibility (WCAG 2.2, AA) does not hold of the page as it stands.

        Texts that are too faint on what is under them, gradients aside; parts that scroll and take no focus; pictures,
        regions and controls without a name.
        """
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node["ignored"] and not _named(node)]
        return self.run(LAPSES) + [f"{role} without a name" for role in roles if role in NAMED]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What happened in this tab so far, by the end of its name."""
        self.settle()
        ours = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return [event["params"] for event in ours if event["method"].endswith(name)]

    def requests(self) -> list[str]:
        """Addresses that were asked for, other than data in the page itself."""
        asked = [event["request"]["url"] for event in self.events("WillBeSent")]
        return [url for url in asked if not url.startswith(("data:", "about:"))]

    def complaints(self) -> list[str]:
        """What the browser logged as errors: exceptions, refused scripts, failed loads."""
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        thrown = [str(event) for event in self.events("Runtime.exceptionThrown")]
        return thrown + [str(entry) for entry in logged if entry["level"] in ("error", "warning")]


def _named(node: dict[str, Any]) -> bool:
    return bool(node.get("name", {}).get("value", "").strip())


@contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A fresh Chromium; where it is not installed the test is skipped, and in CI it fails."""
    binary = shutil.which("chromium")
    if binary is None:
        missing = "chromium is not installed: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    ours, its = socket.socketpair()
    # It reads from 3 and writes to 4.
    program = ["bash", "-c", f'exec "$@" 3<&{its.fileno()} 4>&{its.fileno()}', "bash"]
    command = [*program, binary, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    with ours, subprocess.Popen(command, pass_fds=[its.fileno()], stderr=subprocess.DEVNULL) as process:
        its.close()
        ours.settimeout(60)
        try:
            browser = Browser(ours)
            yield browser
            browser.call("Browser.close")
            process.wait(30)
        finally:
            process.kill()
