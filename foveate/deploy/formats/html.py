"""A model as one page that a browser opens without a server, or as a folder of small files for any static server.

Inside are the ONNX file as it is, onnxruntime-web, and what the answers mean; packed by gzip, which browsers unpack
themselves. The page has no address to send anything to: its policy (CSP) allows no connection.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from foveate.deploy.formats import web_runtime
from foveate.deploy.formats.form import Files, Form, Given
from foveate.errors import WeightsError

if TYPE_CHECKING:
    from foveate.deploy.runtime import Session
    from foveate.deploy.subject import Subject

KEEP = 0.95  # of usual pictures, by default
MODEL, PAGE, SCRIPT, WORKER = "model.onnx", "index.html", "classify.js", "worker.js"
POLICY = (
    "default-src 'none'; script-src {script} 'wasm-unsafe-eval' blob:; worker-src {worker}; connect-src {connect}; "
    "img-src blob: data:; media-src blob: mediastream:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
PART = '<script type="text/plain" id="part-{}">'


def page(onnx: bytes, runtime: Mapping[str, bytes], title: str) -> bytes:
    """One self-contained HTML file of an ONNX file that foveate exported."""
    script, worker = _script("classify.js"), _script("classify_worker.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = POLICY.format(script=f"'sha256-{digest}'", worker="blob:", connect="data: blob:")
    packed = {"runtime": runtime[web_runtime.RUNTIME], "wasm": runtime[web_runtime.WASM], "model": onnx}
    inside = [("worker", worker), *((f"part-{name}", _packed(data)) for name, data in packed.items())]
    return _rendered(onnx, title, policy, script=script, inside=inside, parts={})


def folder(onnx: bytes, runtime: Mapping[str, bytes], title: str) -> dict[str, bytes]:
    """The same as files for a static server: name -> bytes."""
    policy = POLICY.format(script="'self'", worker="'self'", connect="'self'")
    parts = {"runtime": web_runtime.RUNTIME, "wasm": web_runtime.WASM, "model": MODEL, "worker": WORKER}
    made = {
        PAGE: _rendered(onnx, title, policy, script="", script_place=SCRIPT, inside=[], parts=parts),
        SCRIPT: _script("classify.js").encode(),
        WORKER: _script("classify_worker.js").encode(),
        MODEL: onnx,
        "LICENCE.onnxruntime-web.txt": web_runtime.LICENCE.encode(),
    }
    return made | dict(runtime)


def model_of(html: bytes, name: str = "page") -> bytes:
    """The ONNX file inside a page. WeightsError where there is none."""
    start = html.find(PART.format("model").encode())
    end = html.find(b"</script>", start)
    if min(start, end) < 0:
        raise WeightsError(f"{name}: expected a page that foveate exported; it holds no model")
    try:
        return gzip.decompress(base64.b64decode(html[html.index(b">", start) + 1 : end], validate=True))
    except (ValueError, OSError, EOFError) as error:
        raise WeightsError(f"{name}: the model inside is damaged: {error}") from None


def _rendered(
    onnx: bytes,
    title: str,
    policy: str,
    *,
    script: str,
    inside: list[tuple[str, str]],
    parts: Mapping[str, str],
    script_place: str = "",
) -> bytes:
    from markupsafe import Markup

    import foveate
    from foveate.config import to_dict
    from foveate.deploy.runtime import inspect, read_trust
    from foveate.report.page import render

    metadata, classes, preprocess = inspect(onnx)
    trust = read_trust(metadata, len(classes))
    shown = tuple(name.encode("utf-8", "backslashreplace").decode() for name in classes)
    keep = [(share, limit) for share, limit in trust.keep]
    chosen = next((share for share, _ in keep if share >= KEEP - 1e-9), None)
    facts: dict[str, Any] = {"classes": shown, "preprocess": to_dict(preprocess), "keep": keep, "parts": parts}
    about = {"input": f"{preprocess.resolution} x {preprocess.resolution} pixels, {preprocess.fit}"}
    about |= {"size": f"{len(onnx):,} bytes", "SHA-256": hashlib.sha256(onnx).hexdigest()}
    view = {
        "title": title,
        "policy": policy,
        "classes": shown,
        "keep": [(share, share == chosen) for share, _ in keep],
        "about": list(about.items()),
        "version": foveate.__version__,
        "runtime_version": web_runtime.VERSION,
        "licence": web_runtime.LICENCE,
        "facts": Markup(re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", json.dumps(facts))),
        "inside": [(name, Markup(content)) for name, content in inside],
        "script": Markup(script),
        "script_place": script_place,
    }
    return render("classify.html.j2", view).encode()


def _script(name: str) -> str:
    return (resources("foveate.report") / "templates" / name).read_text("utf-8")


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _make(subject: "Subject", given: Given) -> Files:
    runtime = web_runtime.parts(given)  # first: it may be missing
    return {".html": page(subject.trusted_onnx, runtime, given.title)}


def _make_folder(subject: "Subject", given: Given) -> Files:
    runtime = web_runtime.parts(given)
    return folder(subject.trusted_onnx, runtime, given.title)


def _open(files: Files, threads: int) -> "Session":
    from foveate.deploy.runtime import open_session

    return open_session(files[MODEL] if MODEL in files else model_of(files[".html"]), threads)


HTML = Form(
    "one page for any browser, offline",
    ".html",
    web_runtime.missing,
    _make,
    _open,
    next="open {file} in a browser, from the disk or by mail",
)
WEB = Form(
    "the same page as a folder, for a static server",
    ".web",
    web_runtime.missing,
    _make_folder,
    _open,
    folder=True,
    next="python3 -m http.server --directory {file}",
)
