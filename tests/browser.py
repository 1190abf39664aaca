"""Headless Chromium, driven over its DevTools pipe: no driver, no web socket, nothing to install beside the browser."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str | None:
    """Why no page can be opened here; None where one can."""
    return None if any(map(shutil.which, BROWSERS)) else f"no browser: none of {', '.join(BROWSERS)} is installed"


class Page:
    """One tab."""

    def __init__(self, out: int, back: int):
        self.out, self.back, self.number, self.rest = out, back, 0, b""
        self.session = ""
        self.told: list[str] = []  # what the page's console and the security policy said
        self.requests: list[str] = []  # addresses that it asked for
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.send(f"{part}.enable")

    def send(self, method, **params):
        """The result of one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("method") == "Log.entryAdded":
                self.told.append(answer["params"]["entry"]["text"])
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"][:200])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.told.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, timeout=60):
        while b"\0" not in self.rest:
            assert select.select([self.back], [], [], timeout)[0], "the browser does not answer"
            piece = os.read(self.back, 1 << 20)
            assert piece, "the browser ended"
            self.rest += piece
        text, _, self.rest = self.rest.partition(b"\0")
        return json.loads(text)

    def open(self, url):
        """Go there."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, code):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, code, seconds=30):
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.js(code)):
            assert time.monotonic() < end, f"never: {code}; {self.told}; {self.js('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def choose(self, selector, *paths):
        """Put files into an <input type=file>, as a person does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def click(self, selector):
        """A click in the middle of an element."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def key(self, key):
        """One key, pressed and released."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def drop(self, paths, x=200, y=150):
        """Files dropped from the desktop."""
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def size(self, width, height=800, dark=False):
        """The window, and whether it is dark."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def shoot(self, path):
        """A PNG of the whole page."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(folder):
    """A page in a browser of its own, with a made-up camera; ended at the end."""
    name = next(name for name in BROWSERS if shutil.which(name))
    flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    flags += ["--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={folder}"]
    flags += [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "sh", name, *flags],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_out, ours_in)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 9)
        process.wait()
        os.close(ours_out)
        os.close(ours_in)
