"""The plug-in of docs/plugins.md does what the page says; what does not do is refused in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import foveate as fv
from foveate.compress.criteria import CRITERIA
from foveate.layers import ACTS, CONVS, NORMS
from foveate.recipes import RECIPES
from foveate.runs.plugin import TABLES
from foveate.workflows.compress.methods import make_method
from foveate.zoo import ARCHITECTURES, FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture
def tables():
    """The tables as they were, afterwards."""
    kept = [(table, dict(table)) for row in TABLES.values() for table in row]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The page's my_pkg.py where Python finds it."""
    (code,) = re.findall(r"```python\n(from collections.*?)```", PAGE.read_text("utf-8"), re.S)
    (tmp_path / "my_pkg.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_pkg", None)


def test_the_page_adds_one_of_each_and_each_works(package, tables):
    fv.load_plugin("my_pkg")
    fv.load_plugin("my_pkg")  # again: nothing happens
    net = fv.create_model("resnet20_cifar", num_classes=3, layers={"act": "squareplus"})
    assert type(net.act1).__name__ == "SquarePlus"
    x = torch.zeros(2, 3, 32, 32)
    for name in ("tiny_net", "plain16"):
        assert name in fv.list_models()
        made = fv.create_model(name, num_classes=5).eval()
        assert made(x).shape == (2, 5)
        assert fv.cost(fv.variant(name), resolution=32).params == sum(
            p.numel() for p in fv.create_model(name).parameters()
        )
    assert RECIPES["short"].epochs == 2 and "first" in CRITERIA
    assert callable(make_method("first"))
    assert {"tiny_net", "plain"} <= set(FAMILIES) & set(ARCHITECTURES)


def test_the_command_line_trains_with_it(package, tmp_path):
    words = ["--plugin", "my_pkg", "train", "digits", "--model", "tiny_net", "--recipe", "short", "epochs=1"]
    done = subprocess.run(
        [sys.executable, "-m", "foveate", *words, "preprocess.resolution=8", "--quiet"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits-1" / "best" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("kind", "name", "entry", "said"),
    [
        ("actt", "x", nn.ReLU, "did you mean act"),
        ("act", "relu", lambda c: nn.ReLU(), "there is one of this name"),
        ("act", "My-Act", lambda c: nn.ReLU(), "small letters"),
        ("act", "broken", lambda c: 1 / 0, "ZeroDivisionError"),
        ("act", "noned", lambda c: None, "expected a torch.nn.Module"),
        ("norm", "wide", lambda c: nn.Conv2d(c, 2 * c, 1), "expected .2, 8, 8, 8."),
        ("conv", "late", lambda *a, **k: nn.Conv2d(8, 16, 3), "becomes"),
        ("module", "flat", lambda k, c: nn.Flatten(), "two pictures give"),
        ("recipe", "none", 5, "expected a foveate.train.recipe.Recipe"),
        ("criterion", "odd", lambda: 5, "expected a Criterion"),
        ("family", "odd", 5, "expected a foveate.zoo.family.Family"),
    ],
)
def test_what_does_not_do_is_refused_in_one_line_and_adds_nothing(tables, kind, name, entry, said):
    before = [len(table) for table in (ACTS, NORMS, CONVS, FAMILIES, ARCHITECTURES, RECIPES, CRITERIA)]
    with pytest.raises(fv.ConfigError, match=said) as caught:
        fv.add_entry(kind, name, entry)
    assert "\n" not in str(caught.value)
    assert before == [len(table) for table in (ACTS, NORMS, CONVS, FAMILIES, ARCHITECTURES, RECIPES, CRITERIA)]


def test_a_package_without_the_function_is_refused(tables):
    with pytest.raises(fv.ConfigError, match="has no function foveate_plugin"):
        fv.load_plugin("json")
    with pytest.raises(fv.ConfigError, match="not installed"):
        fv.load_plugin("no_such_pkg")
