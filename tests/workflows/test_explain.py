"""foveate explain: overlays, rows and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveate import files
from foveate.cli import main
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build, variant


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = replace(variant("resnet20_cifar"), num_classes=3)
    card = ModelCard(config, ("x", "y", "z"), Preprocess(resolution=32, resize=36, fit="crop"), {})
    folder = tmp_path_factory.mktemp("run") / "best"
    files.write_folder(folder, model_files(card, build(config).state_dict()))
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "my picture.png")
    return tmp_path / "my picture.png"


def test_a_row_and_an_overlay_a_picture(model: Path, picture: Path, tmp_path: Path, capsys):
    out = tmp_path / "o"
    assert main(["explain", str(model), str(picture), str(picture), "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["pictures"]
    assert len(rows) == 2
    assert [Path(row["overlay"]).name for row in rows] == ["my_picture.png", "my_picture-2.png"]
    with Image.open(rows[0]["overlay"]) as drawn:
        assert drawn.size == (64, 40)
    assert rows[0]["method"] == "cam"
    assert rows[0]["exact"] is True
    assert np.shape(rows[0]["map"]) == (8, 8)
    assert rows[0]["matters"] == (rows[0]["drop"] > rows[0]["drop_random"])
    assert {**rows[0], "overlay": ""} == {**rows[1], "overlay": ""}


def test_another_class_and_another_method(model: Path, picture: Path, tmp_path: Path, capsys):
    said = []
    for words in (["--label", "y"], ["--label", "z"], ["--label", "y", "--method", "layercam"]):
        assert main(["explain", str(model.parent), str(picture), "--out", str(tmp_path / "o"), "--json", *words]) == 0
        said.append(json.loads(capsys.readouterr().out)["pictures"][0])
    assert [row["label"] for row in said] == ["y", "z", "y"]
    assert said[0]["map"] != said[1]["map"]
    assert said[2]["method"] == "layercam"
    assert np.min(said[2]["map"]) >= 0


def test_a_bad_picture_is_a_line_and_the_others_are_explained(model: Path, picture: Path, tmp_path: Path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert main(["explain", str(model), str(tmp_path / "bad.png"), str(picture), "--out", str(tmp_path / "o")]) == 3
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "my picture.png" in said.out
    assert len(list((tmp_path / "o").iterdir())) == 1


@pytest.mark.parametrize("words", [["--label", "w"], ["--method", "magic"]])
def test_unknown_names_are_usage(model: Path, picture: Path, tmp_path: Path, capsys, words: list[str]):
    assert main(["explain", str(model), str(picture), "--out", str(tmp_path / "o"), *words]) == 2
    assert words[1] in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
