"""Model folders of strangers: answers that are no numbers, preprocessing that overflows, pictures that cost minutes."""

import copy
import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.config import replace, to_dict
from foveate.data.preprocess import Preprocess
from foveate.deploy.classifier import load
from foveate.deploy.effort import check_effort
from foveate.deploy.export import export_onnx
from foveate.deploy.exported import load as open_any
from foveate.deploy.exported import load_exported
from foveate.deploy.predictor import require_finite
from foveate.errors import ConfigError, WeightsError
from foveate.files import write_folder
from foveate.runs.evaluate import evaluate_model
from foveate.train.artefact import ModelCard, model_files
from foveate.train.evaluate import metrics
from foveate.zoo import build, variant
from foveate.zoo.tensors import read_tensors, tensor_bytes

CLASSES = tuple("0123456789")
P = Preprocess(resolution=32, resize=32, fit="squash")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(replace(variant("resnet20_cifar"), num_classes=10)).eval()


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def written(folder, network, preprocess=P, **tensors):
    """A model folder; tensors replace those of the network by name, with dots as __."""
    state = copy.deepcopy(network.state_dict())
    for name, value in tensors.items():
        state[name.replace("__", ".")].fill_(value)
    write_folder(folder, model_files(ModelCard(network.config, CLASSES, preprocess, {}), state))
    return folder


def overflowing(network, kind):
    """Names of tensors of this kind, each with a finite value so large that the next layers overflow."""
    names = list(network.state_dict())
    if kind == "weights":
        return {next(n for n in names if n.endswith("weight")): 1e38}
    if kind == "head":
        return {names[-2]: 3e38, names[-1]: 3e38}
    return {n: 1e30 for n in names if re.search(r"bn\d?\.weight$", n)}


@pytest.mark.parametrize("kind", ["weights", "head", "gains"])
def test_finite_weights_whose_answers_are_not_end_with_an_error(kind, network, picture, tmp_path, capsys):
    folder = written(tmp_path / "best", network, **overflowing(network, kind))
    model = load(folder)
    for ask in (lambda: model.predict(picture), lambda: model.predict_logits([picture, picture])):
        with pytest.raises(WeightsError, match=r"answers NaN or infinity for (1 of 1|2 of 2) pictures"):
            ask()
    with pytest.raises(WeightsError, match="answers NaN or infinity"):
        evaluate_model(folder, "digits")
    for words in (["predict", str(folder), picture], ["predict", str(folder), picture, "--json"]):
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: the model answers NaN or infinity for 1 of 1")
    assert main(["eval", str(folder), "digits", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_an_exported_file_whose_answers_are_not_finite_says_so(network, picture, tmp_path):
    with torch.no_grad():
        odd = copy.deepcopy(network)
        for name, value in overflowing(odd, "head").items():
            odd.state_dict()[name].fill_(value)
    (tmp_path / "a.onnx").write_bytes(export_onnx(odd, P, CLASSES))
    with pytest.raises(WeightsError, match="the file answers NaN or infinity"):
        load_exported(tmp_path / "a.onnx").predict(picture)


@pytest.mark.parametrize("variance", [-1e-3, -1.0])
def test_a_negative_variance_is_refused_when_it_is_loaded(variance, network, tmp_path):
    name = next(n for n in network.state_dict() if n.endswith("running_var"))
    folder = written(tmp_path / "best", network, **{name: variance})
    with pytest.raises(WeightsError, match=f"{re.escape(name)} holds a negative variance"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("std", 1e-300), ("std", 1e-7), ("std", 0.0), ("std", 1e300), ("mean", 1e30)]
)
def test_preprocessing_that_overflows_is_refused(key, value, network, tmp_path, picture, capsys):
    folder = written(tmp_path / "best", network)
    facts = json.loads((folder / "config.json").read_text())
    facts["preprocess"][key] = [value] * 3
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=rf"preprocess\.{key}\.0 = "):
        load(folder)
    assert main(["predict", str(folder), picture]) > 0
    assert capsys.readouterr().out == ""


def test_one_answer_that_is_not_finite_is_counted():
    logits = np.zeros((3, 2))
    require_finite(logits, P, "x")
    logits[1, 0] = np.nan
    with pytest.raises(WeightsError, match="x answers NaN or infinity for 1 of 3 pictures"):
        require_finite(logits, P, "x")


# what an answer costs


@pytest.mark.parametrize("wanted", [1025, 4096])
def test_a_resolution_that_a_folder_asks_for_is_limited_unless_it_is_named(wanted, network, picture, tmp_path, capsys):
    folder = written(tmp_path / "best", network, Preprocess(resolution=wanted, resize=wanted, fit="squash"))
    with pytest.raises(WeightsError, match=f"pictures of {wanted} x {wanted} pixels; at most 1024 unless"):
        load(folder)
    with pytest.raises(WeightsError, match=f"--resolution {wanted}"):
        evaluate_model(folder, "digits")
    assert main(["predict", str(folder), picture]) == 1
    assert capsys.readouterr().err.startswith(f"error: {folder}: it wants pictures of {wanted}")
    assert main(["predict", str(folder), picture, "--resolution", "32"]) == 0
    assert load(folder, resolution=64).preprocess.resolution == 64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(folder, resolution=wanted).preprocess.resolution == wanted


def test_the_resize_before_a_crop_is_limited_too(network, tmp_path):
    folder = written(tmp_path / "best", network, Preprocess(resolution=32, resize=4096))
    with pytest.raises(WeightsError, match="4096 x 4096"):
        load(folder)


def test_an_exported_file_keeps_its_resolution(network, picture, tmp_path):
    (tmp_path / "a.onnx").write_bytes(export_onnx(network, P, CLASSES))
    with pytest.raises(ConfigError, match="keeps its own, 32"):
        open_any(tmp_path / "a.onnx", resolution=64)
    assert open_any(tmp_path / "a.onnx", resolution=32).predict(picture)


def test_what_costs_much_is_told_and_what_costs_more_is_refused(network):
    def at(name: str, size: int, *, named: bool = False) -> list[str]:
        said: list[str] = []
        config = variant(name)
        with torch.device("meta"):
            model = build(config)
        p = Preprocess(resolution=size, resize=size, fit="squash")
        check_effort(model, config, p, "best", named=named, tell=said.append)
        return said

    assert at("resnet20_cifar", 32) == at("resnet50", 224) == []
    assert at("resnet20_cifar", 1000) == ["best: 40 G multiply-adds a picture of 1000 x 1000, about 1 s on a core"]
    with pytest.raises(WeightsError, match=r"best: 1,0\d\d G multiply-adds .*at most 500 G: --resolution 952 runs it"):
        at("nfnet_f6", 952)
    assert len(at("nfnet_f6", 952, named=True)) == 1


def test_a_large_picture_is_shrunk_before_an_exported_file_sees_it(network, monkeypatch):
    file = load_exported.__globals__
    made = export_onnx(network, replace(P, fit="crop", resize=36), CLASSES)
    from foveate.deploy.exported import Exported
    from foveate.deploy.runtime import open_session

    opened = Exported(open_session(made, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    whole = opened.predict_logits([pixels])
    monkeypatch.setitem(file, "MAX_PIXELS", 100)
    seen = []
    session = opened.session.__class__
    original = session.run
    monkeypatch.setattr(session, "run", lambda self, x: (seen.append(x.shape), original(self, x))[1])
    small = opened.predict_logits([pixels])
    assert seen == [(1, 36, 36, 3)]
    assert np.abs(whole - small).max() < 0.05 * max(1.0, np.abs(whole).max())


def test_the_bounds_of_std_hold_in_every_record():
    assert to_dict(Preprocess(std=(1e-6, 1.0, 1e6)))["std"] == [1e-6, 1.0, 1e6]
    with pytest.raises(ConfigError):
        Preprocess(std=(9e-7, 1.0, 1.0))


@pytest.mark.parametrize("command", [("export",), ("profile", "--measure")])
def test_export_and_a_measured_profile_hold_the_limit_of_pixels(command, network, tmp_path, capsys):
    large = Preprocess(resolution=2048, resize=2048, fit="squash")
    folder = written(tmp_path / "best", network, large)
    first, *more = command
    assert main([first, str(folder), *more]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "it wants pictures of 2048 x 2048 pixels; at most 1024 unless you name them: --resolution 2048" in err
    assert not (folder / "model.onnx").exists()


def test_an_export_takes_the_resolution_that_is_named(network, picture, tmp_path, capsys):
    folder = written(tmp_path / "best", network, Preprocess(resolution=2048, resize=2048, fit="squash"))
    assert main(["export", str(folder), "--resolution", "32", "--out", str(tmp_path / "small.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parity"]["top1_agreement"] == 1
    assert load_exported(tmp_path / "small.onnx").preprocess.resolution == 32


def test_a_report_of_answers_that_are_no_numbers_is_refused():
    logits, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])
    for bad in (np.nan, np.inf, -np.inf):
        logits[2, 1] = bad
        with pytest.raises(WeightsError, match=r"answers for 1 of 4 test pictures are NaN or infinite"):
            metrics(logits, labels, ("a", "b", "c"), "test")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "left\u202eright", "no\u200bwidth", "\x9b2J"])
def test_what_a_weights_file_says_of_itself_is_escaped(name, tmp_path):
    """In whatever reader: the text of the error is one line that moves no terminal."""
    torch.save({name: torch.zeros(2).to_sparse()}, tmp_path / "a.pt")
    (tmp_path / "b.safetensors").write_bytes(tensor_bytes({name: torch.full((2,), float("nan"))}))
    texts = [str(WeightsError(f"operator {name}"))]
    for path in ("a.pt", "b.safetensors"):
        with pytest.raises(WeightsError) as caught:
            read_tensors(tmp_path / path)
        texts.append(str(caught.value))
    assert all(text.isprintable() and name not in text for text in texts)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt", "a": "b"}])
def test_a_file_of_no_tensors_is_written(metadata):
    data = tensor_bytes({}, metadata)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header == ({"__metadata__": metadata} if metadata else {})
