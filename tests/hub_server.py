"""A hub on the loopback interface that speaks the protocol of huggingface_hub, torchvision's files too, and fails on
demand.

Large files are redirected to another host name and told by X-Linked-Etag (their SHA-256), small ones come by
themselves. What was asked stands in `asked`; `faults` maps a file to what goes wrong with it, and how often.
"""

import contextlib
import hashlib
import http.server
import json
import threading
from dataclasses import dataclass, field

COMMIT = "c0ffee" + "0" * 34
ALWAYS = 10**6


@dataclass
class Hub:
    """Repositories by "ORG/NAME", each name -> bytes; files of torchvision's by name."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list] = field(default_factory=dict)  # name of a file -> [kind, times]
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # (method, path, range)
    port: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def fault(self, name):
        """What goes wrong now; one time of it is used up."""
        found = self.faults.get(name)
        if not found or found[1] <= 0:
            return None
        found[1] -= 1
        return found[0]

    def gets(self, part=""):
        """The paths of what was downloaded."""
        return [path for method, path, _ in self.asked if method == "GET" and part in path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            repository, name = "/".join(parts[1:3]), parts[3]
            return self.send_file(hub.repositories[repository][name], hub.fault(name) if body else None, body)
        if parts[0] == "models":
            data = hub.files.get(parts[1])
            kind = hub.fault(parts[1])
            if data is None or str(kind).isdigit():
                return self.say(int(kind or 404), {"Retry-After": "0"})
            return self.send_file(data, kind, body)
        if len(parts) != 5 or parts[2] != "resolve":
            return self.say(404, {})
        repository, revision, name = "/".join(parts[:2]), parts[3], parts[4]
        files = hub.repositories.get(repository)
        kind = hub.fault(f"{self.command} {name}")
        if kind == "gated":
            return self.say(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if kind == "portal":
            return self.say(200, {"Content-Type": "text/html"}, b"<html>please log in</html>", body)
        if kind == "hang up":
            self.close_connection = True
            return self.connection.close()
        if str(kind).isdigit():
            return self.say(int(kind), {})
        if files is None:
            return self.say(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if revision not in ("main", COMMIT):
            return self.say(404, {"X-Error-Code": "RevisionNotFound"})
        if name not in files:
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data = files[name]
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(data).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            return self.say(302, {**headers, "Location": f"http://localhost:{hub.port}/cdn/{repository}/{name}"})
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return self.say(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, data, body)

    def say(self, code, headers, data=b"", body=True):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(data)

    def send_file(self, data, kind, body):
        """A file or the part asked for, as it is or spoilt."""
        start = 0
        if (asked := self.headers.get("Range")) and kind != "no ranges":
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        if start >= len(data):
            return self.say(416, {})
        whole, data = len(data), data[start:]
        if kind == "damaged":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if kind == "short":  # fewer bytes than the hub told, and nothing is cut
            data, start = data[: len(data) // 2], 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return None
        if kind in ("cut", "slow"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if kind == "slow":
                self.hub.let_go.wait(20)
            self.close_connection = True
            return self.connection.close()
        return self.wfile.write(data)


@contextlib.contextmanager
def running_hub(hub):
    """The hub, answering while the block runs."""
    handler = type("OfThisHub", (Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.let_go.set()
        server.shutdown()
        server.server_close()


def timm_files(architecture, state, *, num_classes=1000, side=224, **said):
    """The files of a repository of timm's: config.json, README.md, model.safetensors."""
    from foveate.zoo.weights import tensor_bytes

    cfg = {"input_size": [3, side, side], "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center"}
    cfg |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], **said}
    facts = {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": cfg}
    return {
        "config.json": json.dumps(facts).encode(),
        "README.md": b"---\ntags:\n- timm\nlicense: apache-2.0\n---\n# a card\n",
        "model.safetensors": tensor_bytes(state),
    }


def use_hub(monkeypatch, hub, cache):
    """The real client of huggingface_hub talks to this hub, and keeps its copies in a folder of the test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(cache / "torch"))
    monkeypatch.setenv("FOVEATE_TORCHVISION_URL", f"{hub.url}/models")
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
