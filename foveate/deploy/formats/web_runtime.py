"""onnxruntime-web, the runtime inside a page: found on this machine or fetched when asked, and one version only.

Its files are pinned by SHA-256: what is not exactly this does not get into a page.
"""

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from foveate.deploy.formats.form import Given
from foveate.errors import ConfigError, FoveateError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
ARCHIVE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
MAX_ARCHIVE_BYTES = 64 * 2**20
RUNTIME, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {  # the processor's build, the smallest of the package: all operators, no GPU
    RUNTIME: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
REGISTRY = "https://registry.npmjs.org"
TIMEOUT_S = 300
LICENCE = """\
MIT License. Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated \
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the \
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit \
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the \
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE \
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR \
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR \
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

What it is built from in turn: https://github.com/microsoft/onnxruntime/blob/v1.30.0/ThirdPartyNotices.txt
"""


def cache() -> Path:
    """The folder that fetch() fills."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "foveate" / f"{PACKAGE}-{VERSION}"


def places(given: Given) -> Iterator[Path]:
    """Folders that may hold the files: the given one alone, else node_modules from here upwards, then the cache."""
    if given.runtime is not None:
        for inner in ("", "dist", f"{PACKAGE}/dist", f"node_modules/{PACKAGE}/dist"):
            yield given.runtime / inner
        return
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / "node_modules" / PACKAGE / "dist"
    yield cache()


def found(given: Given) -> Path | None:
    """The first folder that holds both files, whatever their version."""
    return next((place for place in places(given) if all((place / name).is_file() for name in SHA256)), None)


def missing(given: Given) -> str | None:
    """Why no page can be made here, and what to do; None where one can."""
    if given.fetch or found(given) is not None:
        return None
    where = f"{given.runtime} holds no" if given.runtime is not None else "no node_modules here or above holds"
    return (
        f"{where} {PACKAGE}: --fetch takes {VERSION} from the npm registry (33 MB), or npm install {PACKAGE}@{VERSION}"
    )


def parts(given: Given) -> Mapping[str, bytes]:
    """Name -> bytes of the files, checked.

    ConfigError where they are not there, FoveateError where they are of another version or damaged, or can not be
    fetched.
    """
    place = found(given)
    if place is None:
        if not given.fetch:
            raise ConfigError(missing(given) or "")
        place = fetch(given.runtime or cache())
    read = {name: (place / name).read_bytes() for name in SHA256}
    for name, data in read.items():
        if hashlib.sha256(data).hexdigest() != SHA256[name]:
            raise FoveateError(f"{place / name}: not the {name} of {PACKAGE} {VERSION}; --runtime names another folder")
    return read


def fetch(folder: Path) -> Path:
    """Take the package from the npm registry into the folder, by npm (which knows the configured registry) or, without
    it, from $npm_config_registry or the public registry. Nothing of the package is run."""
    import tarfile  # here, as urllib below: a tenth of the command line's start

    from foveate.files import write_bytes

    data = _archive()
    if hashlib.sha256(data).hexdigest() != ARCHIVE_SHA256:
        raise FoveateError(f"{PACKAGE} {VERSION} as the registry gives it is not the archive that foveate knows")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name in SHA256:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise FoveateError(f"{PACKAGE} {VERSION}: the archive holds no {name}")
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, member.read())
    return folder


def _archive() -> bytes:
    import urllib.request

    npm = shutil.which("npm")
    if npm is not None:
        with tempfile.TemporaryDirectory() as folder:
            command = (
                npm,
                "pack",
                f"{PACKAGE}@{VERSION}",
                "--silent",
                "--ignore-scripts",
                "--pack-destination",
                folder,
            )
            try:
                subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=TIMEOUT_S)
                return (Path(folder) / f"{PACKAGE}-{VERSION}.tgz").read_bytes()
            except (OSError, subprocess.SubprocessError) as error:
                raise FoveateError(f"npm pack {PACKAGE}@{VERSION} failed: {_last(error)}") from error
    registry = (os.environ.get("npm_config_registry") or REGISTRY).rstrip("/")  # noqa: SIM112 (as npm has it)
    if not registry.startswith("https://"):
        raise ConfigError(f"npm_config_registry {registry}: expected an https address")
    try:
        with urllib.request.urlopen(f"{registry}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz", timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(MAX_ARCHIVE_BYTES + 1)
            return data
    except OSError as error:
        raise FoveateError(f"{registry} does not give {PACKAGE} {VERSION}: {error}") from error


def _last(error: Exception) -> str:
    """The last line that npm said, or the error itself."""
    said = getattr(error, "stderr", None) or b""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else str(error)
