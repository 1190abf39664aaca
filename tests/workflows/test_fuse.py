"""foveate classic and foveate fuse from the command line: runs like any other, several models as one file."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.cli import main
from foveate.config import replace
from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures
from foveate.data.preprocess import Preprocess
from foveate.deploy.runtime import open_session
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, load_model, model_files
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.teacher import load_teacher
from foveate.zoo import build, variant

QUICK = ("--threads", "1", "--quiet", "--json")


def call(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two classical runs on digits: pixels and gradients, and what the first printed."""
    import contextlib
    import io

    runs, printed = tmp_path_factory.mktemp("runs"), []
    for name, features in (("pixels", "pixels(size=8)"), ("hog", "hog(cell=4, size=16)+pixels(size=4)")):
        out = io.StringIO()
        words = ["classic", "digits", "--features", features, "--classifier", "linear", "--name", name, "--runs"]
        with contextlib.redirect_stdout(out):
            assert main([*words, str(runs), *QUICK]) == 0
        printed.append(json.loads(out.getvalue()))
    return runs, printed


def test_a_pipeline_is_a_run_like_any_other(pair, capsys):
    runs, printed = pair
    assert printed[0]["pipeline"]["features"] == ["pixels(size=8)"] and printed[0]["test_accuracy"] > 0.9
    assert {"run", "test_interval", "latency_ms", "size_bytes", "baselines"} <= printed[0].keys()
    folder = runs / "hog-1" / "best"
    assert (folder / "model.onnx").is_file() and (runs / "hog-1" / "report.html").is_file()
    code, out, _ = call(capsys, "eval", folder, "digits", "--json")
    assert code == 0 and json.loads(out)["accuracy"] == pytest.approx(printed[1]["test_accuracy"])


@pytest.mark.parametrize("by", ["mean", "weights", "stack"])
def test_members_become_one_model_with_one_file(pair, capsys, by):
    runs, printed = pair
    code, out, _ = call(capsys, "fuse", runs / "pixels-1", runs / "hog-1", "--by", by, "--runs", runs, *QUICK)
    assert code == 0
    found = json.loads(out)
    assert found["by"] == by and [m["model"] for m in found["members"]] == [
        str(runs / "pixels-1"),
        str(runs / "hog-1"),
    ]
    assert found["test_accuracy"] >= min(p["test_accuracy"] for p in printed)
    model, card = load_model(f"{found['run']}/best")
    pixels = open_data("digits").splits["test"].pixels[:20]
    session = open_session(Path(found["run"], "best", "model.onnx").read_bytes())
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        np.testing.assert_allclose(session.run(pixels), model(x).numpy(), atol=2e-3)
    assert card.classes == tuple("0123456789")


def test_the_mean_is_the_mean_of_its_members_probabilities(pair, capsys):
    runs, _ = pair
    code, out, _ = call(capsys, "fuse", runs / "pixels-1", runs / "hog-1", "--runs", runs, *QUICK)
    assert code == 0
    fused, _ = load_model(f"{json.loads(out)['run']}/best")
    x = torch.from_numpy(open_data("digits").splits["test"].pixels[:9]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        parts = [load_model(runs / f"{n}-1" / "best")[0](x) for n in ("pixels", "hog")]
        sharp = [(z * s).softmax(1) for z, s in zip(parts, fused.sharpnesses, strict=True)]
        expected = (torch.stack(sharp).mean(0).log() * fused.sharpness).softmax(1)
        torch.testing.assert_close(fused(x).softmax(1), expected, atol=1e-5, rtol=1e-4)


def network(folder, seed, classes="0123456789", scale=1.0):
    """A small network with a random classifier, as a model folder."""
    torch.manual_seed(seed)
    config = replace(variant("resnet20_cifar"), num_classes=len(classes))
    model = build(config)
    with torch.no_grad():
        model.fc.weight.mul_(scale)
    preprocess = Preprocess(resolution=16, resize=16, fit="squash")
    write_folder(folder, model_files(ModelCard(config, tuple(classes), preprocess, {}), model.state_dict()))
    return folder


def test_a_soup_is_never_below_its_best_member_on_validation(pair, capsys, tmp_path):
    del pair
    members = [network(tmp_path / f"m{i}", 0, scale=1 + i / 10) for i in range(2)]
    code, out, err = call(
        capsys, "fuse", *members, "--data", "digits", "--by", "soup", "--runs", tmp_path / "r", *QUICK
    )
    assert code == 0, err
    found = json.loads(out)
    val = open_data("digits").splits["val"]
    scores = []
    for folder in (*members, f"{found['run']}/best"):
        model, card = load_model(folder)
        pictures = evaluation_pictures(val, card.preprocess)
        pictures.load()
        scores.append(accuracy(predict_logits(model, pictures, card.preprocess), labels_of(pictures)))
    assert scores[2] >= max(scores[:2])


def test_a_fusion_is_a_teacher(pair, capsys, tmp_path):
    runs, _ = pair
    code, out, _ = call(capsys, "fuse", runs / "pixels-1", runs / "hog-1", "--runs", tmp_path, *QUICK)
    assert code == 0
    fused = f"{json.loads(out)['run']}/best"
    x = torch.from_numpy(open_data("digits").splits["test"].pixels[:9]).permute(0, 3, 1, 2).float() / 255
    teacher = load_teacher(fused, tuple("9876543210"), "cpu")
    torch.testing.assert_close(teacher(x), load_model(fused)[0](x).flip(1))
    words = ("--model", "resnet8_cifar", "--teacher", tmp_path / "nowhere", "--runs", tmp_path, "--quiet")
    code, out, err = call(capsys, "train", "digits", *words)
    assert code == 2 and "nowhere" in err and err.count("\n") == 1 and not out


def test_the_best_together_are_found_among_finished_runs(pair, capsys, monkeypatch, tmp_path):
    runs, printed = pair
    del printed
    place = tmp_path / "r"
    monkeypatch.setattr(importlib.import_module("foveate.workflows.fuse"), "select", lambda each, *_: np.full(2, 0.5))
    code, out, err = call(capsys, "fuse", "--from", runs, "--max-latency", "1000s", "--runs", place, *QUICK)
    assert code == 0, err
    found = json.loads(out)
    assert found["by"] == "greedy" and {Path(m["model"]).name for m in found["members"]} == {"pixels-1", "hog-1"}
    monkeypatch.undo()
    code, out, err = call(capsys, "fuse", runs / "hog-1", runs / "pixels-1", "--by", "greedy", "--runs", place, *QUICK)
    assert code == 2 and "best alone" in err and err.count("\n") == 1 and not out  # pixels add nothing
    code, out, err = call(capsys, "fuse", "--from", runs, "--max-latency", "0.0001ms", "--runs", place, *QUICK)
    assert code == 4 and "no two members fit; the quickest" in err and err.count("\n") == 1 and not out
    code, _, err = call(capsys, "fuse", "--from", place, "--runs", place, *QUICK)
    assert code == 2 and "0 finished runs there" in err  # a fusion is no member


def test_wise_is_never_below_its_ends_on_validation(pair, capsys, tmp_path):
    del pair
    start, end = (network(tmp_path / f"w{i}", 0, scale=1 + 2 * i) for i in range(2))
    words = ("fuse", start, end, "--data", "digits", "--by", "wise", "--runs", tmp_path / "r", *QUICK)
    code, out, err = call(capsys, *words)
    assert code == 0, err
    found = json.loads(out)
    assert 0 <= found["alpha"] <= 1 and all(m["adds"] >= 0 for m in found["members"])
    a, b, mixed = (load_model(f)[0].fc.weight for f in (start, end, f"{found['run']}/best"))
    torch.testing.assert_close(mixed, torch.lerp(a, b, found["alpha"]))
    for models, text in (((end,), "not kept where it started"), ((start, end, start), "give these two")):
        words = ("fuse", *models, "--data", "digits", "--by", "wise", "--runs", tmp_path / "r", *QUICK)
        code, out, err = call(capsys, *words)
        assert code == 2 and text in err and err.count("\n") == 1 and not out


def test_what_does_not_go_together_is_one_line(pair, capsys, tmp_path):
    runs, _ = pair
    other = network(tmp_path / "other", 1, "abcdefghij")
    for words, code, text in (
        ((runs / "hog-1",), 2, "two or more"),
        ((runs / "hog-1", other), 2, "other classes"),
        ((runs / "hog-1", runs / "pixels-1", "--by", "soup"), 2, "one architecture"),
        ((tmp_path / "none", runs / "hog-1"), 1, "none"),
        ((other, network(tmp_path / "twin", 2, "abcdefghij")), 2, "--data"),
    ):
        got, out, err = call(capsys, "fuse", *words, "--runs", tmp_path / "r", "--quiet")
        assert got == code and text in err and err.count("\n") == 1 and not out, (words, got, err)


def test_classic_refuses_in_one_line(capsys, tmp_path):
    for words, text in (
        (("--features", "hogg()"), "hog"),
        (("--features", "hog(cell=8)"), "8 x 8 pixels"),
        (("--coding", "fisher"), "--features"),
        (("--features", "patches()", "--classifier", "svm"), "linear"),
        (("--pyramid", "1,x"), "1,2,4"),
        (("--model", "resnet50"), "no weights of it"),
    ):
        code, out, err = call(capsys, "classic", "digits", *words, "--runs", tmp_path / "r", "--quiet")
        assert code == 2 and text in err and err.count("\n") == 1 and not out, (words, code, err)
