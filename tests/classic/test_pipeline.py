"""Learnt pipelines: equal to scikit-learn's own answers, saved and opened like any network, the same in ONNX."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import SVC

from foveate.classic.classifiers import CLASSIFIERS
from foveate.classic.fit import fit, vectors_of
from foveate.config import from_json, replace, to_dict, to_json
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_onnx
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError, DataError
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, load_model, model_files
from foveate.zoo import build, config_from, variant
from foveate.zoo.composed.classic import ClassicConfig
from foveate.zoo.composed.deciders import SupportVectors, Trees

HOG = ClassicConfig(("hog(cell=4, size=16, pad=4)",), resolution=8)
PIPELINES = {
    "rbf": (HOG, "rbf"),
    "linear": (replace(HOG, features=("lbp(grid=2)", "colour()"), resolution=16), "linear"),
    "triangle": (replace(HOG, features=("patches(side=4)",), coding="triangle(words=30)", grids=(2,)), "linear"),
    "llc": (replace(HOG, features=("sift(cell=2)",), coding="llc(words=20)", grids=(1, 2), resolution=16), "linear"),
    "fisher": (replace(HOG, features=("sift(cell=2)",), coding="fisher(components=4, pca=8)", resolution=16), "linear"),
    "forest": (replace(HOG, features=("pixels(size=8)",)), "forest(trees=10)"),
}


@pytest.fixture(scope="module")
def scans():
    """(pictures (1797, 3, 8, 8) of 0 to 1, labels)."""
    data = load_digits()
    x = torch.from_numpy(data.images / 16).float()[:, None].expand(-1, 3, -1, -1)
    return x, data.target


def larger(x, size):
    return torch.nn.functional.interpolate(x, (size, size), mode="bilinear")


def learnt(name, scans, count=300):
    config, classifier = PIPELINES[name]
    x, y = larger(scans[0][:count], config.resolution), scans[1][:count]
    return fit(config, classifier, lambda: iter(x.split(64)), y), x, y


def test_hog_with_a_machine_of_radial_kernels_reads_digits(scans):
    x, y = scans
    order = np.random.default_rng(0).permutation(len(y))
    seen, unseen = order[360:], order[:360]
    model = fit(HOG, "rbf", lambda: iter(x[seen].split(256)), y[seen])
    with torch.inference_mode():
        assert (model(x[unseen]).argmax(1).numpy() == y[unseen]).mean() >= 0.99


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_machines_are_scikit_learns(classes):
    rng = np.random.default_rng(0)
    y = np.arange(240) % classes
    x = (rng.normal(size=(240, 6)) + 1.5 * np.eye(10, 6)[y]).astype(np.float32)
    found = CLASSIFIERS["rbf"](c=1.0)(x, y, classes, 0)
    module = SupportVectors(6, classes, found.sizes["vectors"])
    module.load_state_dict({**module.state_dict(), **{k: torch.tensor(v).float() for k, v in found.state.items()}})
    scores = module(torch.from_numpy(x).float()).numpy()
    theirs = SVC(C=1.0, decision_function_shape="ovr").fit(x, y)
    if classes > 2:
        np.testing.assert_allclose(scores, theirs.decision_function(x), atol=2e-4)
    assert (scores.argmax(1) == theirs.predict(x)).mean() > 0.98  # among equal votes libsvm takes the first


@pytest.mark.parametrize("classes", [2, 4])
def test_trees_are_scikit_learns(classes):
    rng = np.random.default_rng(1)
    y = np.arange(200) % classes
    x = (rng.normal(size=(200, 5)) + np.eye(4, 5)[y]).astype(np.float32)
    forest = CLASSIFIERS["forest"](trees=8)(x, y, classes, 3)
    boosted = CLASSIFIERS["boosting"](rounds=5)(x, y, classes, 3)
    for found, theirs in (
        (forest, RandomForestClassifier(8, random_state=3).fit(x, y).predict_proba(x)),
        (boosted, HistGradientBoostingClassifier(max_iter=5, random_state=3).fit(x, y).decision_function(x)),
    ):
        module = Trees(classes, found.sizes["nodes"], found.sizes["trees"], found.sizes["depth"])
        shapes = module.state_dict()
        module.load_state_dict({k: torch.tensor(v).to(shapes[k].dtype) for k, v in found.state.items()})
        scores = module(torch.from_numpy(x)).numpy()
        if theirs.ndim == 1:
            scores = scores[:, 1] - scores[:, 0]
        np.testing.assert_allclose(scores, theirs, atol=1e-5)


def test_trees_of_a_forged_file_end():
    module = Trees(3, 4, 2, 50)
    module.left.fill_(1)
    module.right.fill_(1)
    assert module(torch.zeros(2, 5)).shape == (2, 3)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_saved_opened_and_exported_like_any_network(name, scans, tmp_path):
    model, x, y = learnt(name, scans)
    with torch.inference_mode():
        logits = model(x)
    assert (logits.argmax(1).numpy() == y).mean() > 0.8
    assert config_from(to_dict(model.config)) == model.config == from_json(ClassicConfig, to_json(model.config))
    size = model.config.resolution
    preprocess = Preprocess(resolution=size, fit="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
    classes = tuple("0123456789")
    card = ModelCard(model.config, classes, preprocess, {"model": f"classic {name}"})
    write_folder(tmp_path / "m", model_files(card, model.state_dict()))
    opened, _ = load_model(tmp_path / "m")
    with torch.inference_mode():
        assert torch.equal(opened(x), logits)
    session = open_session(export_onnx(model, preprocess, classes))
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    pixels[-1] = 128  # a picture of one colour
    with torch.inference_mode():
        ours = opened(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255).numpy()
    theirs = session.run(np.ascontiguousarray(pixels))
    assert (ours.argmax(1) == theirs.argmax(1)).all()
    assert np.abs(ours - theirs).mean() < 1e-3


def test_words_and_machines_learn_from_the_training_pictures_alone(scans):
    model, x, _ = learnt("triangle", scans)
    again, _, _ = learnt("triangle", scans)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert vectors_of(model, lambda: iter(x.split(100))).shape == (300, model.num_features)


def test_maps_of_a_network_are_descriptors_too(scans):
    host = build(variant("resnet20_cifar"))
    config = replace(HOG, features=("maps",), host=to_json(host.config), grids=(1, 2), resolution=32)
    x, y = (larger(scans[0][:120], 32) * 255).round() / 255, scans[1][:120]
    model = fit(config, "linear", lambda: iter(x.split(64)), y, host=host.state_dict())
    features = (
        host.eval()
        .forward_features(
            (x[:2] - torch.tensor(config.host_mean).view(3, 1, 1)) / torch.tensor(config.host_std).view(3, 1, 1)
        )
        .mean((2, 3))
    )
    torch.testing.assert_close(model.vectors(x[:2]).view(2, -1, 5)[:, :, 0], features, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_one_line(scans):
    with pytest.raises(ConfigError, match=r"hog.*8 x 8 pixels"):
        build(replace(HOG, features=("hog(cell=8)",)))
    with pytest.raises(ConfigError, match=r"\bhog\b"):
        replace(HOG, features=("hogg",))
    with pytest.raises(ConfigError, match="go together"):
        replace(HOG, features=("maps",))
    with pytest.raises(DataError, match="one class"):
        fit(HOG, "rbf", lambda: iter(scans[0][:9].split(4)), np.zeros(9, int))
    with pytest.raises(DataError, match="fewer words"):
        learnt_few = replace(HOG, features=("patches(side=8)",), coding="hard(words=500)")
        fit(learnt_few, "linear", lambda: iter(scans[0][:30].split(30)), scans[1][:30])
    with pytest.raises(ConfigError, match="linear"):
        fit(HOG, "liner", lambda: iter(scans[0][:30].split(30)), scans[1][:30])
