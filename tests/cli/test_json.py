"""docs/json.md beside what the commands print with --json: each key of each object, with its kind.

After a wanted change read the page, and mend its table by hand.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "object"}
KINDS |= {type(None): "null"}


def tables():
    """Command -> key -> kinds, as the page has them."""
    found = {}
    for part in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.M)[1:]:
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", part, flags=re.M)
        found[part.partition("\n")[0].strip("`")] = {key: set(kinds.strip().split(" / ")) for key, kinds in rows}
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Command -> what it prints for a small run."""
    root, patch = tmp_path_factory.mktemp("json"), pytest.MonkeyPatch()
    patch.chdir(root)
    for label in ("ant", "bee"):
        (root / "data" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i + 99 * (label == "bee")).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "data" / label / f"{i}.png")
    best = "runs/data-1"
    commands = {
        "train": ("train", "data", "--model", "resnet20_cifar", "epochs=1", "preprocess.resolution=16", "--quiet"),
        "predict": ("predict", best, "data"),
        "eval": ("eval", best, "data"),
        "export": ("export", best),
        "deploy check": ("deploy", "check", f"{best}/best/model.onnx", "data"),
        "models": ("models", "resnet20_cifar"),
        "profile": ("profile", "resnet20_cifar"),
        "data check": ("data", "check", "data"),
        "data split": ("data", "split", "data", "--out", "data.csv"),
        "new": ("new", "flowers"),
    }
    yield {name: output(*words) for name, words in commands.items()}
    patch.undo()


def output(*words):
    """The one object that a command prints."""
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main([*words, "--json"])
    return json.loads(said.getvalue())


@pytest.mark.parametrize("name", sorted(tables()))
def test_a_command_prints_the_keys_that_the_page_has(name, printed):
    expected, found = tables()[name], printed[name]
    assert set(found) == set(expected)
    for key, value in found.items():
        assert KINDS[type(value)] in expected[key] or (isinstance(value, int) and "number" in expected[key]), key


def test_the_page_has_every_command_that_is_tried(printed):
    assert set(tables()) == set(printed)
