"""Chromium without a window, driven over a pipe by its DevTools protocol: what tests and scripts of pages share."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"  # no name resolves: nothing outside can be reached


def chromium() -> str | None:
    """The browser of this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page: its errors are kept, and what is evaluated in it comes back as JSON."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write, self.ids = read, write, itertools.count(1)
        self.held, self.session, self.errors, self.requests = b"", "", list[str](), list[str]()

    def call(self, method: str, timeout_s: float = 120, **params: Any) -> dict[str, Any]:
        """One call of the protocol."""
        number = next(self.ids)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout_s
        while True:
            found = self._next(end)
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            if found.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(found["params"])[:500])
            if found.get("method") == "Network.requestWillBeSent":
                self.requests.append(found["params"]["request"]["url"][:200])

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.held:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.read], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            more = os.read(self.read, 2**20)
            if not more:
                raise RuntimeError("the browser ended")
            self.held += more
        first, self.held = self.held.split(b"\0", 1)
        return json.loads(first)

    def evaluate(self, script: str, timeout_s: float = 120) -> Any:
        """The value of an expression; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", timeout_s, expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:800])
        return found["result"].get("value")

    def until(self, condition: str, timeout_s: float = 60) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + timeout_s
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def choose(self, selector: str, *paths: Path) -> None:
        """Put files into an <input type=file>, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(p.resolve()) for p in paths])

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        end = time.monotonic() + 60
        while self.evaluate("document.readyState + location.href") != f"complete{address}":
            if time.monotonic() > end:
                raise TimeoutError(address)
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Write what is to be seen as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def browser(*flags: str) -> Iterator[Page]:
    """A browser with one empty page."""
    path = chromium()
    if path is None:
        raise RuntimeError("no Chromium on this machine")
    (from_us, to_it), (from_it, to_us) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def fds() -> None:
            # 3 and 4 are the protocol's; the pipes' own numbers may be these
            a, b = os.dup(from_us), os.dup(to_us)
            a, b = (os.dup(a) if a < 5 else a), (os.dup(b) if b < 5 else b)
            os.dup2(a, 3)
            os.dup2(b, 4)

        command = (path, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank")
        process = subprocess.Popen(
            command, preexec_fn=fds, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        page = Page(from_it, to_it)
        try:
            targets = page.call("Target.getTargets")["targetInfos"]
            target = next(t["targetId"] for t in targets if t["type"] == "page")
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, 9)
            process.wait()
            os.close(from_it)
            os.close(to_it)
