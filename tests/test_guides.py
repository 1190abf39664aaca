"""What start, guides, concepts and the comparison show runs: each page's Python in order, beside a run."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import foveate as fv
from foveate.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("guides/*.md"), *DOCS.glob("concepts/*.md"), *DOCS.glob("reference/*.md")])
PAGES += [DOCS / "start.md", DOCS / "compare.md"]
OTHERS = re.compile(r"^# (Ultralytics|fastai|timm|AutoGluon)", re.M)  # a block for tools that are not here


def blocks(page, language="python"):
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)
    return [text for text in found if not OTHERS.search(text)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with photos/ (24 small pictures of two classes), runs/photos-1 and my.jpg, as the pages have them."""
    folder = tmp_path_factory.mktemp("pages")
    generator = np.random.default_rng(0)
    for label, level in (("cat", 60), ("dog", 190)):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(generator.normal(level, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{i}.png")
    Image.open(folder / "photos" / "cat" / "0.png").save(folder / "my.jpg")
    changes = ["epochs=1", "batch=8", "preprocess.resolution=32"]
    fv.train(folder / "photos", "resnet20_cifar", overrides=changes, weights="none", runs=folder / "runs")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def shortened(code):
    """The same calls with a second in place of a minute, from scratch, and with room for a busy machine."""
    code = re.sub(r"max_latency_ms=10\b", "max_latency_ms=1000", code)
    if "models=" not in code:
        code = re.sub(r"(time_s=)\d+", r'\g<1>1, models="resnet20_cifar", weights=None', code)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_the_python_of_a_page_runs(page, here, capsys):
    names = {}
    for code in blocks(page):
        exec(compile(shortened(code), page.name, "exec"), names)
    assert capsys.readouterr().out or page.stem in ("care_of_data",)


def test_every_page_has_something_to_type():
    prose = {"index"}
    assert not [p.name for p in PAGES if p.stem not in prose and "```" not in p.read_text("utf-8")]


@pytest.mark.slow
def test_the_walk_of_the_start_page(here, capsys):
    """From a folder to a file: the commands of docs/start.md in their order, with a second in place of ten minutes."""
    lines = [line for block in blocks(DOCS / "start.md", "sh") for line in block.splitlines()]
    assert len(lines) == 11
    for line in lines:
        words = line.split()[1:]
        if "clothes" in words:  # the demo has a test of its own
            continue
        if words[0] == "fit":
            limit = words.index("--max-latency")
            words = [
                *words[:limit],
                "--models",
                "resnet20_cifar",
                "--weights",
                "none",
                "--time",
                "1s",
                "--runs",
                "runs",
            ]
        if "--apply" in words:  # what the button of the page saves, with one picture decided
            name = Path("photos.csv").read_text("utf-8").splitlines()[1].split(",")[0]
            head = Path("review/decisions.csv").read_text("utf-8").splitlines()[0]
            assert head.split(",")[0] == "path" and "decision" in head.split(",")
            Path("decisions.csv").write_text(f"path,decision\n{name},keep\n", "utf-8")
        assert main(words) == 0, (line, capsys.readouterr().err[-2000:])
    assert Path("runs/photos-2/report.html").exists() and Path("looked").is_dir()
    first, second = (Path(name).read_text("utf-8").splitlines() for name in ("photos.csv", "photos-2.csv"))
    assert second[0].split(",")[:3] == ["path", "label", "split"]
    assert {line.split(",")[0]: line.split(",")[2] for line in first} == {
        line.split(",")[0]: line.split(",")[2] for line in second
    }  # the same split, so that two models are judged on the same pictures


def test_the_interface_in_the_other_languages_is_that_of_the_file(made):
    model = onnx.load(made / "runs" / "photos-1" / "best" / "model.onnx")
    (image,) = model.graph.input
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in image.type.tensor_type.shape.dim][3] == 3
    outputs = [output.name for output in model.graph.output]
    assert outputs[:2] == ["probabilities", "logits"]
    page = (DOCS / "guides" / "onnx.md").read_text("utf-8")
    (javascript,), (cpp,) = blocks(DOCS / "guides" / "onnx.md", "js"), blocks(DOCS / "guides" / "onnx.md", "cpp")
    assert "session.run({ image }" in javascript and '"probabilities"' in javascript and '"uint8"' in javascript
    assert 'inputs[] = {"image"}' in cpp and 'outputs[] = {"probabilities"}' in cpp and "std::uint8_t" in cpp
    assert all(f"`{name}`" in page for name in outputs)


def test_pictures_of_the_pages_are_small():
    assert all(path.stat().st_size < 120_000 for path in DOCS.rglob("*.png"))
