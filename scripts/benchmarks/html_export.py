"""python scripts/benchmarks/html_export.py --runtime DIR [MODEL ...]   what --to html gives in a real browser

Each network (names of the zoo, by default one of five families, or model folders) becomes a page and a folder. The page
is opened from the disk without network in headless Chromium, and 20 pictures of odd sizes and kinds are chosen in it as
a person would. Printed: sizes, the largest difference of the logits from onnxruntime in Python, how long it takes.
--runtime: a folder with onnxruntime-web, as foveate export has it; --fetch takes it from npm.
"""

import argparse
import contextlib
import functools
import http.server
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from browser import Page, browser

from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.deploy.exported import Exported, load
from foveate.deploy.formats import FORMS
from foveate.deploy.formats.form import Given
from foveate.deploy.subject import Subject
from foveate.train.artefact import load_model
from foveate.train.trusted import PLAIN
from foveate.zoo import build, variant

NETWORKS = ("resnet18", "mobilenet_v3_small", "shufflenet_g2_1x", "efficientnet_lite0", "regnety_004")
SIZES = ((64, 64), (1, 1), (7, 200), (200, 7), (640, 480), (331, 500), (97, 96), (1024, 683))
CHOSEN = "(() => { const l = foveate.last(); return l && l.name === '%s' ? Array.from(l.found.logits) : null; })()"


def pictures(folder: Path) -> list[Path]:
    """20 files: modes, formats, orientations and sizes that people have."""
    made, rng = [], np.random.default_rng(0)

    def keep(image: Image.Image, name: str, **how: Any) -> None:
        made.append(folder / f"{len(made):02d}-{name}")
        image.save(made[-1], **how)

    for width, height in SIZES:
        y, x = np.mgrid[:height, :width]
        waves = [127 + 100 * np.sin(x / rng.uniform(3, 40) + y / rng.uniform(3, 40) + c) for c in range(3)]
        levels = np.stack(waves, 2) + rng.normal(0, 20, (height, width, 3))
        keep(Image.fromarray(levels.clip(0, 255).astype(np.uint8)), f"{width}x{height}.png")
    photo = Image.open(made[5]).convert("RGB")
    keep(photo.convert("L"), "grey.png")
    keep(photo.convert("P"), "palette.png")
    keep(photo.convert("1"), "one-bit.png")
    keep(photo.convert("RGBA"), "opaque.png")
    keep(photo, "quality90.jpg", quality=90)
    keep(photo, "progressive.jpg", quality=75, progressive=True)
    keep(photo, "444.jpg", quality=95, subsampling=0)
    keep(photo.convert("L"), "grey.jpg")
    for orientation in (3, 6):
        exif = Image.Exif()
        exif[274] = orientation
        keep(photo, f"turned{orientation}.jpg", exif=exif)
    keep(photo, "lossless.webp", lossless=True)
    keep(photo.convert("P"), "still.gif")
    return made


@contextlib.contextmanager
def new_page() -> Iterator[Page]:
    """A page in a browser with a profile of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser(profile) as page:
        yield page


def differences(page: Page, model: Exported, files: list[Path]) -> dict[str, float]:
    """Largest difference of the logits for each picture, chosen in the opened page one after another."""
    found = {}
    for path in files:
        page.choose("#file", path)
        end = time.monotonic() + 120
        while (logits := page.js(CHOSEN % path.name)) is None and time.monotonic() < end:
            time.sleep(0.02)
        found[path.name] = float(np.abs(np.array(logits) - model.predict_logits([path])[0]).max())
    return found


def subject_of(name: str) -> Subject:
    """A model folder, or a network of the zoo with random weights, as what is exported."""
    if Path(name).is_dir():
        net, card = load_model(Path(name))
        return Subject(net, card.preprocess, card.classes, trust=card.trust or PLAIN, known=card.known)
    torch.manual_seed(0)
    net = build(replace(variant(name), num_classes=10)).eval()
    preprocess = Preprocess(resolution=128, resize=144)
    return Subject(net, preprocess, tuple(f"class {i}" for i in range(10)), trust=PLAIN)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain static server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    finally:
        server.shutdown()
        server.server_close()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("models", nargs="*", default=NETWORKS)
    options.add_argument("--runtime", type=Path)
    options.add_argument("--fetch", action="store_true")
    asked = options.parse_args()
    given = Given("benchmark", asked.runtime, asked.fetch)
    print("network                 onnx MB  page MB  ready s  ms/picture  worst of 20 (abs)  of largest logit  server")
    worst = 0.0
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = pictures(folder)
        for name in asked.models:
            subject = subject_of(name)
            onnx, html = subject.trusted_onnx, FORMS["html"].make(subject, given)[".html"]
            (folder / "model.html").write_bytes(html)
            (folder / "model.onnx").write_bytes(onnx)
            site = folder / "site"
            site.mkdir(exist_ok=True)
            for part, data in FORMS["web"].make(subject, given).items():
                (site / part).write_bytes(data)
            model = load(folder / "model.onnx")
            assert isinstance(model, Exported)
            logits = model.predict_logits(files)
            with new_page() as page:
                began = time.monotonic()
                page.open((folder / "model.html").as_uri())
                page.js("foveate.ready.then(() => 1)")
                ready_s = time.monotonic() - began
                apart = differences(page, model, files)
                ms = page.js("foveate.last().found.ms")
                errors = list(page.told)
            with new_page() as page, served(site) as address:
                page.open(address)
                page.js("foveate.ready.then(() => 1)")
                from_server = max(differences(page, model, files[:3]).values())
            most = max(apart.values())
            share = max(d / max(1.0, np.abs(row).max()) for d, row in zip(apart.values(), logits, strict=True))
            worst = max(worst, share, from_server)
            print(
                f"{Path(name).name if '/' not in name else name:<22}  {len(onnx) / 1e6:7.2f}  {len(html) / 1e6:7.2f}  "
                f"{ready_s:7.1f}  {ms:10.1f}  {most:17.1e}  {share:16.1e}  {from_server:.1e}",
                *errors,
                flush=True,
            )
            for picture, d in apart.items():
                if d > 1e-4:
                    print(f"    {picture}: {d:.1e}")
    print(f"worst {worst:.1e} of max(1, largest logit): {'good' if worst <= 1e-4 else 'over 1e-4'}")
    return int(worst > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
