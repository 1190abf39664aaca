"""An exported file answers what the model folder answers: probabilities, strangeness, "unknown", sets."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import foveate as fv
from foveate.data.preprocess import Preprocess
from foveate.deploy.classifier import Classifier, torch_outputs
from foveate.deploy.export import WithFeatures, export_onnx, export_trusted
from foveate.deploy.exported import Exported
from foveate.deploy.runtime import open_session
from foveate.deploy.subject import Subject
from foveate.deploy.trust_graph import with_trust
from foveate.errors import ConfigError, WeightsError
from foveate.train.artefact import ModelCard
from foveate.trust.fit import fit_trust
from foveate.trust.strangers import know

P = Preprocess(resolution=32, resize=32, fit="squash")
CLASSES = ("ant", "bee", "cat")


def pictures(n: int, seed: int) -> list[np.ndarray]:
    """Soft random pictures: each of its own colour and contrast."""
    rng = np.random.default_rng(seed)
    grids = rng.integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)
    return [np.kron(g, np.ones((8, 8, 1), np.uint8)) for g in grids]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    net = fv.create_model("resnet20_cifar", num_classes=3, weights=None).eval()
    two = WithFeatures(net)
    _, known = torch_outputs(two, P, pictures(40, 1))
    logits, _ = torch_outputs(two, P, pictures(60, 2))
    with torch.no_grad():  # logits as of a trained network: they differ from picture to picture
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1]
        head.weight *= 2 / float(logits.std(0).mean())
        head.bias -= torch.from_numpy(torch_outputs(two, P, pictures(60, 2))[0].mean(0))
    logits, features = torch_outputs(two, P, pictures(60, 2))
    labels = np.where(np.arange(60) % 5 < 3, logits.argmax(1), np.arange(60) % 3)
    trust, stored = fit_trust(logits, labels, features, know(known, 16))
    assert trust.kind == "temperature" and stored is not None
    return Classifier(net, ModelCard(net.config, CLASSES, P, {}, trust=trust, known=stored))


@pytest.fixture(scope="module")
def exported(classifier: Classifier) -> bytes:
    card = classifier.card
    return export_trusted(classifier.model, P, CLASSES, card.trust, card.known)


def strange(classifier: Classifier) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    return [*pictures(12, 3), *noise, np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)]


def test_the_file_has_probabilities_first_and_they_are_the_models(classifier, exported):
    runtime = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert [o.name for o in runtime.get_outputs()] == ["probabilities", "logits", "strangeness"]
    given = strange(classifier)
    rows = [runtime.run(None, {"image": p[None]}) for p in given]
    logits, strangeness = classifier.predict_strangeness(given)
    np.testing.assert_allclose(np.concatenate([r[0] for r in rows]), classifier.trust.probabilities(logits), atol=1e-5)
    np.testing.assert_allclose(np.concatenate([r[2] for r in rows]), strangeness, rtol=2e-3, atol=2e-3)
    batch = runtime.run(None, {"image": np.stack(given)})
    np.testing.assert_allclose(batch[2], np.concatenate([r[2] for r in rows]), rtol=2e-3, atol=2e-3)


def test_a_model_of_before_the_sums_is_exported_as_it_answers(classifier):
    known = dataclasses.replace(classifier.card.known, sums=None)
    older = Classifier(classifier.model, dataclasses.replace(classifier.card, known=known))
    file = Exported(open_session(export_trusted(older.model, P, CLASSES, older.card.trust, known)))
    (_, mine), (_, theirs) = (m.predict_strangeness(strange(classifier)) for m in (older, file))
    np.testing.assert_allclose(theirs, mine, rtol=2e-3, atol=2e-3)
    assert not np.allclose(mine, classifier.predict_strangeness(strange(classifier))[1])


def test_an_opened_file_answers_as_the_folder_does(classifier, exported):
    file, given = Exported(open_session(exported)), strange(classifier)
    assert file.trust.scale == classifier.trust.scale and file.trust.keep == classifier.trust.keep
    mine, theirs = (m.answer(given, top=2, keep=0.9, coverage=0.8) for m in (classifier, file))
    for a, b in zip(mine, theirs, strict=True):
        assert (a.label, a.unknown, a.set) == (b.label, b.unknown, b.set)
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
        assert a.set[0] == a.label and a.top[0] == (a.label, a.probability)
    assert {a.unknown for a in mine} == {True, False}
    one = file.answer(given[0])
    assert (one.unknown, one.set) == (None, None) and one.label == mine[0].label


def test_what_was_not_fitted_is_refused_with_what_to_do(classifier, exported):
    plain = Classifier(classifier.model, dataclasses.replace(classifier.card, trust=None, known=None))
    picture = pictures(1, 9)[0]
    for keywords in ({"keep": 0.95}, {"coverage": 0.95}):
        with pytest.raises(ConfigError, match="20 validation"):
            plain.answer(picture, **keywords)
    with pytest.raises(ConfigError, match=r"up to 0\.99"):
        classifier.answer(picture, keep=0.999)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        classifier.answer(picture, keep=1.0)


def test_files_without_features_have_probabilities_only(classifier):
    raw = export_onnx(classifier.model, P, CLASSES)
    file = Exported(open_session(with_trust(raw, classifier.trust, None)))
    assert file.session.outputs == ("probabilities", "logits") and not file.trust.keep
    assert file.answer(pictures(1, 1)[0], coverage=0.9).set
    with pytest.raises(ConfigError):
        file.answer(pictures(1, 1)[0], keep=0.9)


@pytest.mark.parametrize("text", ["{", '{"scale": [1, 2]}', '{"scale": [-1]}', '{"keep": [[0.9, 1], [0.8, 2]]}', "[]"])
def test_damaged_trust_of_a_file_is_refused(exported, text):
    model = onnx.ModelProto.FromString(exported)
    next(item for item in model.metadata_props if item.key == "trust").value = text
    with pytest.raises(WeightsError, match="trust"):
        open_session(model.SerializeToString())


def test_a_file_with_other_outputs_is_refused(exported):
    model = onnx.ModelProto.FromString(exported)
    model.graph.output[2].name = "somewhere"
    with pytest.raises(WeightsError):
        open_session(model.SerializeToString())


def test_openvino_answers_as_the_folder_does(classifier, exported):
    from foveate.deploy import openvino
    from foveate.deploy.targets import float_files, opened

    if openvino.missing() is not None:
        return  # an extra
    session = opened(float_files(exported, "openvino"), "openvino", "fp32", 1)
    assert session.outputs == ("probabilities", "logits", "strangeness")
    check_same(classifier, Exported(session))


@pytest.mark.parametrize("name", ["onnx_int8", "openvino_int8"])
def test_int8_files_carry_a_fit_of_their_own(classifier, name):
    from foveate.deploy.targets import TARGETS, with_trust_in

    target = TARGETS[name]
    if target.missing() is not None:
        return  # an extra
    card, calibration = classifier.card, pictures(16, 7)
    subject = Subject(classifier.model, P, CLASSES, calibration=calibration, features=True, min_agreement=0.0)
    files = target.make(subject)
    session = target.open(files, 1)
    assert set(session.outputs) == {"logits", "features"}
    rows = [session.answer(p[None]) for p in pictures(60, 2)]
    logits, features = (np.concatenate([row[key] for row in rows]) for key in ("logits", "features"))
    labels = np.where(np.arange(60) % 5 < 3, logits.argmax(1), np.arange(60) % 3)
    trust, known = fit_trust(logits, labels, features, card.known)
    file = Exported(target.open(with_trust_in(files, trust, known), 1))
    assert file.session.outputs == ("probabilities", "logits", "strangeness")
    assert file.trust.scale == trust.scale and file.trust.keep == trust.keep
    given = strange(classifier)
    z, scores = file.predict_strangeness(given)
    rows = [file.session.answer(p[None]) for p in given]
    np.testing.assert_allclose(np.concatenate([r["probabilities"] for r in rows]), trust.probabilities(z), atol=1e-5)
    seen = np.concatenate([session.answer(p[None])["features"] for p in given])
    expected = known.strangeness(seen, trust.probabilities(z).max(1))
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=2e-3)


def check_same(classifier, file):
    given = strange(classifier)
    for a, b in zip(*(m.answer(given, keep=0.9, coverage=0.8) for m in (classifier, file)), strict=True):
        assert (a.label, a.unknown, a.set) == (b.label, b.unknown, b.set)
        assert a.strangeness == pytest.approx(b.strangeness, rel=1e-2, abs=1e-2)
