"""A headless Chromium for tests of pages, spoken to in its DevTools protocol through a pipe; needs only the browser."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
WHERE = "COWORLD_BENCH_CHROMIUM"  # an environment variable that names the browser
PATIENCE_S = 60
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--font-render-hinting=none",
)  # fmt: skip
KEYS = {  # code of Windows, and the text that a key writes
    "Enter": (13, "\r"), " ": (32, " "), "Tab": (9, ""), "Escape": (27, ""), "Home": (36, ""), "End": (35, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""), "+": (187, "+"),
    "-": (189, "-"), "0": (48, "0"),
}  # fmt: skip


def find_chromium() -> str | None:
    """The path of a browser, where there is one."""
    named = os.environ.get(WHERE)
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A running browser with a profile of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        browser = Browser(path, profile)
        try:
            yield browser
        finally:
            browser.close()


class Browser:
    def __init__(self, path: str, profile: str) -> None:
        its_input, self.writing = map(high, os.pipe())
        self.reading, its_output = map(high, os.pipe())
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        command = [path, *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"]
        actions = [
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, its_input, 3),
            (os.POSIX_SPAWN_DUP2, its_output, 4),
        ]
        self.process = os.posix_spawn(path, command, os.environ, file_actions=actions)
        os.close(its_input)
        os.close(its_output)
        self.buffer = b""
        self.calls = 0
        self.tabs: dict[str, Tab] = {}

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Do something and return what came of it. Raises RuntimeError where the browser refuses."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        os.write(self.writing, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.calls:
            self.keep(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def keep(self, event: dict[str, Any]) -> None:
        if event.get("sessionId") in self.tabs:
            self.tabs[event["sessionId"]].events.append(event)

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            if not select.select([self.reading], [], [], PATIENCE_S)[0]:
                raise RuntimeError(f"the browser said nothing for {PATIENCE_S} s")
            found = os.read(self.reading, 1 << 16)
            if not found:
                raise RuntimeError("the browser is gone")
            self.buffer += found
        message, _, self.buffer = self.buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def open(self, url: str, width: int = 1200, height: int = 800, dark: bool = False, scale: float = 1) -> Tab:
        """A new tab with a page, loaded; `scale` is device pixels for a CSS pixel."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self.tabs[session] = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height, scale)
        tab.prefer("dark" if dark else "light")
        tab.load(url)
        return tab

    def close(self) -> None:
        self.call("Browser.close")
        os.close(self.writing)
        os.close(self.reading)
        os.waitpid(self.process, 0)


class Tab:
    """A page in the browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def load(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.browser.keep(self.browser.receive())

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def prefer(self, scheme: str, media: str = "") -> None:
        """What the system asks for: `light` or `dark`; `media` may be `print`."""
        self.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises RuntimeError where it throws."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", script))
        return found["result"].get("value")

    def painted(self) -> None:
        """Wait until the page has drawn what it was told."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def until(self, condition: str) -> None:
        """Wait for a JavaScript condition; what comes of an event may take a moment."""
        look = f"const look = () => ({condition}) ? done(true) : left-- ? setTimeout(look, 20) : done(false); look();"
        assert self.evaluate(f"new Promise((done) => {{ let left = 250; {look} }})"), f"never came true: {condition}"

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, in the window, as it is after scrolling it there."""
        found = self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); if (!found) return null;"
            "found.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        assert found, f"nothing on the page is {selector}"
        return found[0], found[1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        x, y = self.place(selector)
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start, button="left", clickCount=1)
        self.mouse("mouseMoved", *end, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Fingers: `touchStart`, `touchMove` or `touchEnd`."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        same = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def picture(self, path: Path, whole: bool = False) -> None:
        """What is seen, or the whole page, as PNG."""
        self.painted()
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def requests(self) -> list[str]:
        """All addresses that were asked for since the page was opened, less data inside it."""
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith("data:")]

    @property
    def faults(self) -> list[str]:
        """Errors and warnings of its scripts and of the browser about it."""
        found = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(told["exceptionDetails"].get("exception", {}).get("description", "an exception"))
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
                found.append(told["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(told["args"]))
        return found

    def close(self) -> None:
        self.browser.tabs.pop(self.session)
        self.browser.call("Target.closeTarget", targetId=self.target)


def high(descriptor: int) -> int:
    """The same pipe under a number that is not one of those the browser takes for itself (3 and 4)."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
