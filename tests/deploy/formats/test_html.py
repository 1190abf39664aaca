"""foveate.deploy.formats.html: the page holds the model as it is, keeps names from being markup, and runs in a browser.

The runtime is a few lines that stand for onnxruntime-web: its 14 MB are not in the repository, and
scripts/benchmarks/html_export.py runs the real one.
"""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from browser import browser, missing
from onnx import load_from_string
from PIL import Image
from torch import nn

from foveate.cli.export import To
from foveate.config import to_dict
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_trusted
from foveate.deploy.formats import FORMS, html, web_runtime
from foveate.deploy.formats.form import Given
from foveate.errors import ConfigError, FoveateError, WeightsError
from foveate.train.trusted import Trust

CLASSES = ("red", "green", "</script><b>blue", "naïve 🐈 \udce9")
STUB = b"""
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  static async create(model) { const made = new InferenceSession(); made.outputNames = ["logits"]; return made; }
  async run({ image }) {  // the mean of each channel
    const [n, h, w] = image.dims, logits = new Float32Array(4 * n), probabilities = new Float32Array(4 * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < h * w; j++)
        for (let c = 0; c < 3; c++) logits[4 * i + c] += image.data[3 * (i * h * w + j) + c] / (h * w) / 25.5;
      const row = logits.subarray(4 * i, 4 * i + 4).map(Math.exp), sum = row.reduce((a, b) => a + b);
      probabilities.set(row.map((v) => v / sum), 4 * i);
    }
    const strangeness = new Float32Array(n).fill(image.data[0] === 77 ? 2 : 0.5);
    const out = { logits, probabilities, strangeness };
    return Object.fromEntries(Object.entries(out).map(([k, data]) => [k, { data }]));
  }
}
"""
WHERE = "document.getElementById('where').textContent"
RUNTIME = {web_runtime.RUNTIME: STUB, web_runtime.WASM: b"\0asm"}


@pytest.fixture(scope="module")
def onnx():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trust = Trust(keep=((0.9, 0.9), (0.95, 1.0), (0.99, None)))
    raw = export_trusted(net, Preprocess(resolution=32, resize=36), CLASSES)
    model = load_from_string(raw)  # a table of shares as a trained model has it; the stub answers for it
    for item in model.metadata_props:
        if item.key == "trust":
            item.value = json.dumps(to_dict(trust))
    return model.SerializeToString()


def test_the_page_holds_the_model_and_names_are_no_markup(onnx):
    made = html.page(onnx, RUNTIME, "<i>x</i>")
    assert html.model_of(made) == onnx
    text = made.decode()
    assert "<b>blue" not in text and "<i>x" not in text and "http-equiv" in text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])
    assert facts["classes"] == ["red", "green", "</script><b>blue", "naïve 🐈 \\udce9"]
    assert facts["keep"] == [[0.9, 0.9], [0.95, 1.0], [0.99, None]]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text.replace("&#39;", "'")  # else no browser would run it
    assert "Copyright (c) Microsoft" in text
    assert not re.search(r'(src|href)="', text)  # nothing of it is elsewhere
    assert html.page(onnx, RUNTIME, "<i>x</i>") == made


@pytest.mark.parametrize("damage", [lambda p: b"<html></html>", lambda p: p[: len(p) // 2], lambda p: p[:-9000]])
def test_a_page_without_its_model_is_refused(onnx, damage):
    made = html.page(onnx, RUNTIME, "x")
    cut = damage(made)
    if len(cut) == len(made) - 9000:
        start = made.index(b'id="part-model">')
        cut = made[: start + 40] + b"!!" + made[start + 42 :]
    with pytest.raises(WeightsError, match="page"):
        html.model_of(cut)


def test_only_the_pinned_runtime_gets_into_a_page(tmp_path, monkeypatch):
    given = Given("x", tmp_path)
    assert f"npm install onnxruntime-web@{web_runtime.VERSION}" in web_runtime.missing(given)
    with pytest.raises(ConfigError, match="--fetch"):
        web_runtime.parts(given)
    place = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    place.mkdir(parents=True)
    for name in RUNTIME:
        (place / name).write_bytes(RUNTIME[name])
    assert web_runtime.missing(given) is None
    with pytest.raises(FoveateError, match=r"not the ort\.wasm"):
        web_runtime.parts(given)
    monkeypatch.setattr(web_runtime, "SHA256", {n: hashlib.sha256(d).hexdigest() for n, d in RUNTIME.items()})
    assert web_runtime.parts(given) == RUNTIME
    monkeypatch.chdir(place.parent)
    assert web_runtime.parts(Given()) == RUNTIME  # found above


def test_what_a_registry_gives_is_checked_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(web_runtime, "_archive", lambda: b"another archive")
    with pytest.raises(FoveateError, match="not the archive"):
        web_runtime.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_every_form_can_be_named_on_the_command_line():
    assert [form.value for form in To] == [*FORMS, "best"]


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_in_a_browser_without_network(onnx, tmp_path):
    (tmp_path / "model.html").write_bytes(html.page(onnx, RUNTIME, "colours"))
    rng = np.random.default_rng(0)
    files = {"green.png": (40, 200, 30), "strange.png": (77, 0, 200)}
    for name, colour in files.items():
        pixels = np.full((50, 70, 3), colour, np.uint8)
        if name == "green.png":
            pixels[:, 35:] = (120, 120, 120)  # the right half says nothing of it
            pixels[:2] = rng.integers(0, 255, (2, 70, 3))
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with browser(tmp_path / "profile") as page:
        page.open((tmp_path / "model.html").as_uri())
        page.js("foveate.ready.then(() => 1)")

        def chosen(name):
            page.choose("#file", tmp_path / name)
            page.until(f"foveate.last()?.name === '{name}' && /^(In colour|No)/.test({WHERE})")
            texts = "['label','said','where','bars'].map(i => document.getElementById(i).textContent)"
            return page.js(texts), page.js("Array.from(foveate.last().found.logits)")

        (label, _, where, bars), logits = chosen("green.png")
        expected = np.asarray(Image.open(tmp_path / "green.png")).reshape(-1, 3).mean(0) / 25.5
        assert np.allclose(logits[:3], expected, atol=1e-3) and label == "green"
        assert "takes most from green" in where and "</script><b>blue" in bars
        heat = np.array(page.js("foveate.heat()")).reshape(8, 8)
        assert heat[:, :3].min() > heat[:, 5:].max()  # what is green counts
        (label, said, *_), _ = chosen("strange.png")
        assert label == "None of these" and "nearest class is </script><b>blue" in said
        page.js("(e => { e.value = '0'; e.onchange(); })(document.getElementById('keep'))")
        assert page.js("document.getElementById('label').textContent") == "</script><b>blue"
        page.choose("#file", tmp_path / "no.png")
        page.until("document.getElementById('state').textContent.includes('can not read it')")
        page.js("document.getElementById('camera').click()")
        page.until("foveate.frames() > 2")
        page.js("document.getElementById('camera').click()")
        assert page.told == []
        outside = [a for a in page.requests if not a.startswith(("file:", "blob:", "data:"))]
        assert outside == []
