"""foveate deploy check: planted faults are found and named, and a sound file is not blamed."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import foveate as fv
from foveate.cli import main
from foveate.data.preprocess import Preprocess
from foveate.deploy import faults
from foveate.deploy.export import export_onnx
from foveate.deploy.parity import torch_logits
from foveate.files import write_folder
from foveate.runs.deployed import check_deployed
from foveate.train.artefact import ModelCard, model_files

pytestmark = pytest.mark.slow  # it exports a network
CLASSES = ("ant", "bee", "cow")
P = Preprocess(resolution=32, resize=36)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder, its file, and six photograph-like pictures a class."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("deployed")
    model = fv.build(fv.replace(fv.variant("resnet20_cifar"), num_classes=3)).eval()
    with torch.no_grad():
        list(model.parameters())[-2].mul_(30)  # logits as large as those of a trained network
    write_folder(root / "best", model_files(ModelCard(model.config, CLASSES, P, {}), model.state_dict()))
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (root / "data" / label).mkdir(parents=True)
        for i in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
            fine = np.asarray(coarse.resize((90 + i, 120), Image.Resampling.BICUBIC), np.int16)
            noisy = fine * np.array([1, 0.7, 0.4]) + rng.integers(-40, 40, fine.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "data" / label / f"{i}.png")
    (root / "sound.onnx").write_bytes(export_onnx(model, P, CLASSES))
    return root


def rewritten(place, change):
    """The sound file after a change of its graph."""
    model = onnx.load(place / "sound.onnx")
    change(model)
    onnx.save(model, place / "faulty.onnx")
    return check_deployed(place / "faulty.onnx", place / "data", model=place / "best")


def constant(model, name, value):
    """Put another value in place of a stored tensor."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), name))


def scaling(mean, std):
    """A change: another mean and std in the file, which still says the right ones."""

    def change(model):
        nodes = {node.output[0]: node for node in model.graph.node}
        add = nodes["image/pixels"]
        mul = nodes[add.input[0]]
        m, s = (np.array(v).reshape(1, 3, 1, 1) for v in (mean, std))
        constant(model, mul.input[1], 1 / (255 * s))
        constant(model, add.input[1], -m / s)

    return change


def swapped(model):
    """Blue, green, red: the channels are taken in another order."""
    first = next(node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] == "image")
    out, first.output[0] = first.output[0], "rgb"
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "bgr"))
    at = list(model.graph.node).index(first) + 1
    model.graph.node.insert(at, onnx.helper.make_node("Gather", ["rgb", "bgr"], [out], axis=1))


def plain_resize(model):
    """No antialias and bilinear: what most libraries do by themselves."""
    node = next(node for node in model.graph.node if node.op_type == "Resize")
    kept = [a for a in node.attribute if a.name == "coordinate_transformation_mode"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("mode", "linear")])


def truncated(model):
    """The largest weights are zero from half on."""
    tensor = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[values.size // 2 :] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def reordered(model):
    """The file names its classes in another order than its rows have."""
    item = next(item for item in model.metadata_props if item.key == "classes")
    item.value = json.dumps([CLASSES[1], CLASSES[2], CLASSES[0]])


def infinite(model):
    tensor = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def both(model):
    swapped(model)
    scaling((0, 0, 0), (1, 1, 1))(model)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swapped, "agrees after swapping red and blue"),
        (scaling((0, 0, 0), (1, 1, 1)), "agrees after taking pictures from 0 to 1 (no mean, no std)"),
        (scaling((0.5,) * 3, (0.5,) * 3), "agrees after taking pictures from -1 to 1 (mean and std 0.5)"),
        (plain_resize, "agrees after resizing and cutting, bilinear without antialias"),
        (truncated, "are zero from 50 % on: cut off"),
        (reordered, "agrees with the classes in another order"),
        (infinite, "its answers are not finite"),
        (both, "agrees after swapping red and blue and taking pictures from 0 to 1 (no mean, no std)"),
    ],
)
def test_a_planted_fault_is_named(place, change, text):
    found = rewritten(place, change)
    assert text in found["fault"]
    assert found["agrees"] is False


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_another_resize_is_named(place, fit):
    model = fv.load(place / "best")
    other = fv.replace(P, fit=fit)
    images = [np.asarray(Image.open(p)) for p in sorted((place / "data").rglob("*.png"))]

    def run(prepared, p):
        with torch.inference_mode():
            return torch_logits(model.model, p, prepared)

    file = run([faults.prepare(x, other) for x in images], other)
    ways = {"squash": "squashing to a square, bicubic", "letterbox": "adding bars, bicubic"}
    assert faults.named_fault(file, images, P, run) == f"agrees after {ways[fit]}"


def test_a_sound_file_is_not_blamed_and_a_faulty_one_exits_with_1(place, capsys):
    words = ["deploy", "check", str(place / "sound.onnx"), str(place / "data"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fault"] is None and found["agrees"] and found["top1_agreement"] == 1 and found["n"] == 18
    rewritten(place, swapped)
    words[2] = str(place / "faulty.onnx")
    assert main(words[:-1]) == 1
    assert "fault: agrees after swapping red and blue" in capsys.readouterr().out
