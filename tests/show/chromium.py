"""A real browser for tests: Debian's chromium, driven over its debugging pipe, nothing to install.

Commands and events are JSON ended by a NUL byte on file descriptors 3 and 4
(https://chromedevtools.github.io/devtools-protocol/).
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

WHERE = shutil.which("chromium") or shutil.which("chromium-browser")
WHY = "no chromium here: apt-get install chromium"
OWN_SCHEMES = ("file:", "data:", "about:", "blob:", "chrome:")


class Chromium:
    """One page in a headless chromium; keeps what it said on its console and what it asked for."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900, scale: float = 1.0):
        to_read, ours_write = os.pipe()
        ours_read, to_write = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c",
             f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}', WHERE,
             "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-quic", "--remote-debugging-pipe",
             "--disable-features=IsolateSandboxedIframes",  # so that tests can look into frames
             f"--user-data-dir={profile}", f"--window-size={width},{height}",
             f"--force-device-scale-factor={scale}", "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._in, self._out = ours_read, ours_write
        self._buffer, self._next = b"", 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.bound: list[str] = []
        self.session: str | None = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.send(
            "Target.attachToTarget", targetId=page, flatten=True, sessionless=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method, sessionless=False, seconds=60, **params):
        """A command's result; events that come before it are kept."""
        self._next += 1
        number = self._next
        message = {"id": number, "method": method, "params": params}
        if self.session is not None and not sessionless:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for got in self._messages(end - time.monotonic()):
                if got.get("id") == number:
                    if "error" in got:
                        raise RuntimeError(f"{method}: {got['error']}")
                    return got["result"]
        raise TimeoutError(f"{method} took more than {seconds} s")

    def _messages(self, seconds):
        """What has come, events already noted; waits when nothing has."""
        if b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0, seconds))[0]:
                return []
            got = os.read(self._in, 1 << 20)
            if not got:
                raise RuntimeError("chromium has ended")
            self._buffer += got
        found = []
        while b"\0" in self._buffer:
            one, self._buffer = self._buffer.split(b"\0", 1)
            message = json.loads(one)
            self._note(message)
            found.append(message)
        # replies that are not awaited now do not exist: commands run one at a time
        return found

    def _note(self, message):
        params, method = message.get("params", {}), message.get("method")
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a)) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.bindingCalled":
            self.bound.append(params["payload"])

    @property
    def outgoing(self) -> list[str]:
        """Requests that would leave this machine's page."""
        return [url for url in self.requests if not url.startswith(OWN_SCHEMES)]

    def open(self, path):
        """Load a file (or a URL) and wait until it is there."""
        url = path.as_uri() if isinstance(path, Path) else path
        self.send("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, expression):
        """The value of JavaScript; promises are awaited."""
        got = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in got:
            raise RuntimeError(got["exceptionDetails"].get("exception", {}).get("description"))
        return got["result"].get("value")

    def wait(self, expression, seconds=30, on_bound=None):
        """Until JavaScript is true; ``on_bound`` takes each payload of a binding meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while self.bound and on_bound is not None:
                on_bound(self.bound.pop(0))
            if self.run(f"Boolean({expression})"):
                return
            for _ in self._messages(0.005):
                pass
        raise TimeoutError(f"{expression} stayed false for {seconds} s; errors: {self.errors}")

    def click(self, selector):
        """A real mouse click in the middle of the first element of a selector."""
        x, y = self.run(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center', inline: 'center'}); "
            "const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def move(self, x, y):
        """The mouse at a point of the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key, code=None, text="", modifiers=0):
        """A key, down and up ("Tab", "Enter", " ", "ArrowRight", "z")."""
        numbers = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40,
                   "ArrowLeft": 37, "ArrowUp": 38}
        number = numbers.get(key, ord(key[0].upper()))
        text = text or {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, text=text,
                      windowsVirtualKeyCode=number, modifiers=modifiers)

    def show_as(self, width, dark, height=900):
        """A window of this width, a telephone's below 500, in the dark or not."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path, full=False):
        """A PNG of the window, or of the whole page."""
        got = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        Path(path).write_bytes(base64.b64decode(got["data"]))

    def close(self):
        """End this browser, and only this one."""
        for end in (self._out, self._in):
            os.close(end)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def clean(browser: Chromium) -> None:
    """The page said no error, asked for nothing outside it and ran no word as code."""
    assert browser.errors == []
    assert browser.outgoing == []
    assert browser.run("document.title") != "pwned"
