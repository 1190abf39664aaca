"""foveate profile --measure and foveate export --to: tables, JSON, files, and what is refused in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY

from foveate.cli import main
from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare
from foveate.deploy.compare import generated, pairs
from foveate.deploy.exported import load_exported
from foveate.errors import FoveateError
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build

P = Preprocess(resolution=32, resize=36)
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures in three classes by their colour: train/ and test/."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 8)):
        for k, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 90, (40 + i, 50, 3), dtype=np.uint8)
                pixels[..., 2 - k] += 120
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, data):
    """A tiny network that tells those colours."""
    torch.manual_seed(0)
    net = build(replace(TINY["resnet"], num_classes=3)).train()
    files = [(k, f) for k, name in enumerate(CLASSES) for f in sorted((data / "train" / name).iterdir())]
    x = torch.from_numpy(np.stack([prepare(np.asarray(Image.open(f)), P) for _, f in files])).permute(0, 3, 1, 2)
    x, y = normalise(x, P), torch.tensor([k for k, _ in files])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    assert (net(x).argmax(1) == y).all()
    folder = tmp_path_factory.mktemp("run") / "best"
    write_folder(folder, model_files(ModelCard(net.config, CLASSES, P, {"model": "tiny"}), net.state_dict()))
    return folder


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_profile_lists_what_is_ready_in_seconds_and_keeps_its_latency(run, model):
    code, out, err = run("profile", model, "--measure", "--threads", "1", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["latency"]["runtime"].startswith("onnxruntime") and found["latency"]["n"] >= 30
    rows = {(r["engine"], r["precision"]): r for r in found["runtimes"]}
    assert ("torch", "fp32") in rows and ("onnxruntime", "fp32") in rows and ("onnxruntime", "int8") not in rows
    assert all(r["reason"] or r["threads"] == 1 for r in rows.values())
    assert rows[(found["best"]["engine"], found["best"]["precision"])]["median_ms"] > 0


def test_profile_judges_all_named_runtimes_on_labelled_pictures(run, model, data):
    words = ("--runtime", "torch:fp32,onnxruntime,openvino", "--data", data, "--threads", "1", "--max-drop", "5")
    code, out, err = run("profile", model, *words)
    assert code == 0, err
    lines = out.splitlines()
    table = [line for line in lines if line.startswith(("PyTorch", "ONNX", "OpenVINO"))]
    assert sum("<- best" in line for line in table) == 1
    assert sum("100.0 %" in line and "+0.0" in line for line in table) >= 2
    assert any(line.startswith("ONNX Runtime") and " int8 " in line for line in table)
    assert "24 pictures (test of" in out and "5 points" in out and "calibrating int8" in err
    assert "Traceback" not in err and "CUDA" not in err


def test_profile_refuses_in_one_line(run, model, data, tmp_path):
    for words, code, text in (
        (("--runtime", "tensorrt"), 2, 'runtime "tensorrt"'),
        (("--data", data), 2, "--data: only with --measure"),
        (("--measure", "--data", tmp_path / "none"), 3, "none"),
    ):
        got, out, err = run("profile", model, *words)
        assert (got, out) == (code, "") and text in err and err.count("\n") == 1, err


def test_export_int8_from_labelled_pictures_and_from_a_folder(run, model, data, tmp_path):
    card = {p.name: p.read_bytes() for p in model.iterdir()}
    code, out, err = run("export", model, "--to", "onnx_int8", "--data", data, "--out", tmp_path / "m.onnx", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["to"] == "onnx_int8" and found["parity"]["n"] == 24 and found["parity"]["drop"] <= 0.01
    assert found["size_bytes"] == (tmp_path / "m.onnx").stat().st_size
    exported = load_exported(tmp_path / "m.onnx")
    assert exported.classes == CLASSES and exported.predict(data / "test" / "red" / "0.png", top=1)[0][0] == "red"
    code, out, err = run("export", model, "--to", "onnx_int8", "--pictures", data, "--out", tmp_path / "n.onnx")
    assert code == 0 and "real pictures" in out, err
    assert {p.name: p.read_bytes() for p in model.iterdir()} == card  # the model folder is as it was


def test_export_best_keeps_what_was_measured_best(run, model, data, tmp_path):
    words = (
        "--to",
        "best",
        "--data",
        data,
        "--out",
        tmp_path / "m.onnx",
        "--threads",
        "1",
        "--max-drop",
        "5",
        "--json",
    )
    code, out, err = run("export", model, *words)
    assert code == 0, err
    found = json.loads(out)
    rows = {(r["engine"], r["precision"]) for r in found["runtimes"]}
    assert rows == {("torch", "fp32"), *pairs(["onnxruntime", "openvino"])}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f.rpartition("/")[2] for f in found["files"])
    exported = load_exported(found["file"])
    for name in CLASSES:
        assert exported.predict(data / "test" / name / "3.png", top=1)[0][0] == name


def test_export_to_openvino_without_pictures(run, model, tmp_path):
    code, out, err = run("export", model, "--to", "openvino", "--out", tmp_path / "m.xml")
    assert code == 0 and "m.bin and" in out and "generated pictures" in out, err
    exact = load_exported(tmp_path / "m.xml")
    assert exact.predict_logits(generated(3)).shape == (3, 3)


def test_export_refuses_in_one_line_and_writes_nothing(run, model, data, tmp_path, monkeypatch):
    def refused(words, code, text):
        got, out, err = run("export", model, "--threads", "1", *words)
        last = err.splitlines()[-1]
        assert (got, out) == (code, "") and text in last and last.startswith("error: "), err
        assert not list(tmp_path.glob("m.*"))

    refused(("--to", "onnx_int8", "--out", tmp_path / "m.onnx"), 2, "give --data DATA or --pictures DIR")
    refused(("--to", "onnx", "--out", tmp_path / "m.xml"), 2, "ends with .onnx")
    refused(("--to", "onnx_int8", "--data", data, "--pictures", data), 2, "give one of them")
    (tmp_path / "empty").mkdir()
    refused(("--to", "onnx_int8", "--pictures", tmp_path / "empty", "--out", tmp_path / "m.onnx"), 3, "no pictures")

    def worse(*_):
        raise FoveateError("the exported file loses 7.0 points")

    monkeypatch.setattr("foveate.deploy.write.require_agreement", worse)
    refused(("--to", "onnx_int8", "--data", data, "--out", tmp_path / "m.onnx"), 1, "loses 7.0 points")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(("--to", "openvino", "--out", tmp_path / "m.xml"), 2, "pip install 'foveate[openvino]'")
