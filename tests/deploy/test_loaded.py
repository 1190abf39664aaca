"""foveate.load and what it opens: every source, every form of picture, probabilities, features, the transform."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import foveate as fv
from foveate.data.preprocess import Preprocess
from foveate.deploy.exported import Exported
from foveate.errors import ConfigError, DataError, WeightsError
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files

CLASSES = ("ant", "bee", "<b>cow</b>")
P = Preprocess(resolution=32, resize=36)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with best/, and three pictures below a folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "insects-1"
    model = fv.build(fv.replace(fv.variant("resnet20_cifar"), num_classes=3)).eval()
    folder.mkdir()
    card = ModelCard(model.config, CLASSES, P, {"model": "resnet20_cifar"})
    write_folder(folder / "best", model_files(card, model.state_dict()))
    pictures = folder / "pictures" / "inner"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(pictures / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(run):
    return fv.load(run / "best")


@pytest.fixture(scope="module")
def names(run):
    return sorted(str(p) for p in (run / "pictures").rglob("*.png"))


def test_a_run_its_folder_and_its_best_are_one_model(run, model, names):
    expected = model.predict(names[0])
    for source in (run, str(run), SimpleNamespace(folder=run)):
        assert fv.load(source).predict(names[0]) == expected


def test_a_hub_address_opens_the_local_copy(run, model, names, monkeypatch):
    monkeypatch.setattr("foveate.zoo.hub.hub_folder", lambda text: run / "best")
    assert fv.load("hf-hub:me/insects").predict(names[0]) == model.predict(names[0])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="holds no config"):
        fv.load(tmp_path)


def test_tensors_are_read_as_torchvision_writes_them(model, names):
    image = Image.open(names[0])
    expected = model.predict(image, top=3)
    for x in (v2.functional.pil_to_tensor(image), v2.functional.to_image(image) / 255):
        assert model.predict(x, top=3) == expected
    grey = torch.arange(64, dtype=torch.uint8).view(8, 8)
    assert model.predict(grey) == model.predict(grey[None]) == model.predict(grey.numpy())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (torch.zeros(2, 3, 8, 8), r"give list\(tensor\)"),
        (torch.zeros(8, 8, 3), "channels first"),
        (torch.full((3, 8, 8), 200.0), "expected 0 to 1"),
        (torch.full((3, 8, 8), float("nan")), "expected 0 to 1"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "expected uint8"),
    ],
)
def test_a_tensor_of_another_form_is_refused_in_a_line(model, wrong, text):
    with pytest.raises(DataError, match=text):
        model.predict(wrong)


def test_a_folder_is_the_list_of_its_pictures(run, model, names):
    assert model.predict(run / "pictures") == model.predict(names)
    assert model.predict_folder(run / "pictures") == dict(zip(names, model.predict(names), strict=True))
    with pytest.raises(DataError, match="no such folder"):
        model.predict_folder(names[0])


def test_the_batch_changes_no_answer(model, names):
    few, many = model.predict_proba(names, batch=1), model.predict_proba(names, batch=64)
    assert np.allclose(few, many, atol=1e-6)
    with pytest.raises(ConfigError, match="batch = 0"):
        model.predict(names, batch=0)


def test_probabilities_are_the_softmax_of_the_module_on_the_transform(model, names):
    x = torch.stack([model.preprocess(Image.open(name)) for name in names])
    assert x.shape == (3, 3, 32, 32)
    with torch.no_grad():
        expected = torch.softmax(model.module(x).double(), 1).numpy()
    found = model.predict_proba(names)
    assert found.shape == (3, 3)
    assert np.allclose(found, expected, atol=1e-6)
    assert model.predict_proba(names[0]).shape == (1, 3)


def test_the_transform_is_torchvisions(model, names):
    ours = v2.Compose([model.preprocess])(Image.open(names[0]))
    theirs = v2.Compose(
        [
            v2.Resize(36, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(32),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(P.mean, P.std),
        ]
    )(Image.open(names[0]))
    assert (ours - theirs).abs().max() < 0.03  # one level of a byte


def test_features_are_the_mean_of_the_last_map(model, names):
    x = torch.stack([model.preprocess(name) for name in names])
    with torch.no_grad():
        expected = model.module.forward_features(x).mean((2, 3)).numpy()
    assert np.allclose(model.features(names), expected, atol=1e-5)
    assert model.features([]).shape[0] == 0


def test_the_onnx_file_answers_the_same_and_says_what_it_can_not(model, names, tmp_path):
    path = model.to_onnx(tmp_path / "insects.onnx")
    file = fv.load(path)
    assert isinstance(file, Exported)
    assert np.allclose(file.predict_proba(names), model.predict_proba(names), atol=0.02)
    assert file.predict_folder(tmp_path.parent / names[0].rpartition("/")[0]).keys() == set(names)
    for ask in (lambda: file.features(names), lambda: file.module, lambda: file.to_onnx("x.onnx")):
        with pytest.raises(ConfigError, match="exported file"):
            ask()
    with pytest.raises(ConfigError, match=r"ends with \.onnx"):
        model.to_onnx(tmp_path / "insects.txt")


def test_what_a_notebook_shows_is_short_and_escaped(model):
    assert "\n" not in repr(model)
    shown = model._repr_html_()
    assert "resnet20_cifar" in shown and "&lt;b&gt;cow" in shown and "<b>" not in shown
