"""predict --keep and --set, eval's calibration: of a folder and of its exported file the same rows."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import foveate as fv
from foveate.cli import main
from foveate.data.preprocess import Preprocess
from foveate.deploy.classifier import prepared, torch_outputs
from foveate.deploy.export import WithFeatures
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files
from foveate.trust.fit import fit_trust
from foveate.trust.strangers import know

P = Preprocess(resolution=32, resize=32, fit="squash")
KEYS = ["path", "label", "probability", "unknown", "set", "strangeness", "top"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder fitted on 60 pictures of two classes, and pictures: blues, reds, and noise."""
    root = tmp_path_factory.mktemp("trust")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(60):
        name, colour = (("blue", (20, 40, 200)), ("red", (200, 40, 20)))[i % 2]
        (root / "data" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.clip(np.array(colour) + rng.normal(0, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
        paths.append(root / "data" / name / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / "noise.png")
    torch.manual_seed(0)
    net = fv.create_model("resnet20_cifar", num_classes=2).eval()
    ready = [prepared(path, P) for path in paths]
    labels = np.arange(60) % 2
    logits, features = torch_outputs(WithFeatures(net), P, ready)
    direction = features[labels == 1].mean(0) - features[labels == 0].mean(0)
    middle = features.mean(0)
    scale = 1 / float(direction @ direction)
    head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():  # the head that tells the colours, with an error in ten labels
        weight = torch.from_numpy(np.stack([-direction, direction]) * scale)
        head.weight.copy_(weight)
        head.bias.copy_(-weight @ torch.from_numpy(middle))
    logits, features = torch_outputs(WithFeatures(net), P, ready)
    noisy = np.where(np.arange(60) % 10 == 3, 1 - labels, labels)
    trust, known = fit_trust(logits, noisy, features, know(features, 16))
    card = ModelCard(net.config, ("blue", "red"), P, {}, trust=trust, known=known)
    write_folder(root / "model", model_files(card, net.state_dict()))
    return root


@pytest.fixture
def run(capsys):
    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


def test_rows_of_a_folder_and_of_its_file_are_the_same(place, run):
    assert run("export", place / "model")[0] == 0
    pictures = [place / "data" / "blue" / "0.png", place / "data" / "red" / "1.png", place / "noise.png"]
    rows = {}
    for model in ("model", "model/model.onnx"):
        code, out, _ = run("predict", place / model, *pictures, "--keep", "0.95", "--set", "0.9", "--json")
        assert code == 0
        rows[model] = json.loads(out)["predictions"]
    for mine, file in zip(*rows.values(), strict=True):
        assert list(mine) == list(file) == KEYS
        assert mine["probability"] == pytest.approx(file["probability"], abs=1e-5)
        assert [mine[k] for k in ("label", "unknown", "set")] == [file[k] for k in ("label", "unknown", "set")]
        assert mine["label"] in mine["set"] and mine["top"][0]["label"] == mine["label"]
    assert [row["label"] for row in rows["model"]][:2] == ["blue", "red"]
    assert [row["unknown"] for row in rows["model"]] == [False, False, True]


def test_text_says_unknown_and_names_the_set(place, run):
    code, out, _ = run("predict", place / "model", place / "noise.png", "--keep", "0.95")
    assert code == 0 and out.split("\t")[1] == "unknown"
    code, out, _ = run("predict", place / "model", place / "data" / "red" / "1.png", "--set", "0.9")
    assert code == 0 and "red" in out.rstrip("\n").split("\t")[3].split(",")


def test_nothing_is_judged_that_was_not_asked_for(place, run):
    row = json.loads(run("predict", place / "model", place / "noise.png", "--json")[1])["predictions"][0]
    assert row["unknown"] is None and row["set"] is None and row["strangeness"] > 1


@pytest.mark.parametrize(("option", "value", "code"), [("--keep", "0.995", 2), ("--set", "2", 2), ("--keep", "no", 2)])
def test_shares_that_can_not_be_are_told_in_a_line(place, run, option, value, code):
    found, out, err = run("predict", place / "model", place / "noise.png", option, value)
    assert found == code and not out and len(err.strip().splitlines()) == 1


def test_eval_tells_the_errors_before_and_after(place, run):
    code, out, _ = run("eval", place / "model", place / "data", "--json")
    found = json.loads(out)
    assert code == 0 and found["ece"] >= 0 and found["ece_before"] >= 0 and 0 <= found["brier"] <= 2
    assert found["ece_interval"][0] <= found["ece_interval"][1] and len(found["ece_null"]) == 2
    assert found["temperature"] != 1.0
    text = run("eval", place / "model", place / "data")[1]
    assert f"calibration error {found['ece']:.3f} ({found['ece_before']:.3f} unscaled" in text and "Brier" in text
