"""FoveateClassifier by scikit-learn's own checks, and in scikit-learn's own tools."""

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import check_estimator

import foveate as fv
from foveate.runs.estimator import FoveateClassifier

# what a check asks for that a network does not promise, with the reason
EXPECTED_FAILED = {
    "check_methods_subset_invariance": "float32: a batch of one and of twenty sum in another order, 1e-7 is asked",
    "check_methods_sample_order_invariance": "float32: as above",
}
# checks that need what is not installed
SKIPPED = {"check_array_api_input", "check_classifier_data_not_an_array", "check_sample_weights_pandas_series"}
QUICK = {"epochs": 1, "overrides": ["preprocess.resolution=8"], "device": "cpu", "weights": "none"}


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.images[:200], found.target[:200]


@pytest.fixture(scope="module")
def fitted(digits):
    return FoveateClassifier(**QUICK).fit(*digits)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")  # it warns of estimators without its base class, and of what it leaves out
def test_scikit_learns_checks_hold_but_for_those_that_are_listed():
    found = check_estimator(
        FoveateClassifier(**QUICK), expected_failed_checks=EXPECTED_FAILED, on_fail=None, on_skip=None
    )
    by_status = {}
    for row in found:
        by_status.setdefault(row["status"], set()).add(row["check_name"])
    assert not by_status.get("failed")
    assert by_status.get("xfail", set()) <= set(EXPECTED_FAILED)
    assert by_status.get("skipped", set()) <= SKIPPED
    assert len(by_status["passed"]) >= 45


def test_it_learns_and_answers_in_the_order_of_its_classes(fitted, digits):
    x, y = digits
    p = fitted.predict_proba(x)
    assert p.shape == (200, 10) and np.allclose(p.sum(1), 1)
    assert np.array_equal(fitted.predict(x), fitted.classes_[p.argmax(1)])
    assert fitted.score(x, y) == np.mean(fitted.predict(x) == y)
    assert is_classifier(fitted)


def test_rows_of_a_shape_are_the_same_pictures(fitted, digits):
    x, y = digits
    rows = clone(fitted).set_params(shape=(8, 8)).fit(x.reshape(200, 64), y)
    assert np.array_equal(rows.predict_proba(x.reshape(200, 64)), fitted.predict_proba(x))


def test_a_pickle_holds_parameters_and_plain_bytes(fitted, digits):
    raw = pickle.dumps(fitted)
    assert b"torch" not in raw.replace(b"pytorch", b"")
    again = pickle.loads(raw)
    assert np.array_equal(again.predict_proba(digits[0]), fitted.predict_proba(digits[0]))


def test_pictures_of_any_form_and_labels_of_any_kind(digits, tmp_path):
    x, y = digits
    pictures, paths = [Image.fromarray((image * 15).astype(np.uint8)) for image in x[:60]], []
    for i, picture in enumerate(pictures):
        paths.append(tmp_path / f"{i}.png")
        picture.save(paths[-1])
    names = np.where(y[:60] % 2, "odd", "even")
    made = [FoveateClassifier(**QUICK).fit(form, names) for form in (pictures, paths)]
    assert list(made[0].classes_) == ["even", "odd"]
    assert np.allclose(made[0].predict_proba(paths), made[1].predict_proba(pictures), atol=1e-6)


def test_the_model_inside_predicts_as_a_loaded_one(fitted, digits, tmp_path):
    path = fitted.classifier_.to_onnx(tmp_path / "digits.onnx")
    assert fv.load(path).classes == tuple(map(str, range(10)))


def test_what_is_wrong_is_a_value_error_or_one_line(digits):
    x, y = digits
    with pytest.raises(ValueError, match="at least two classes"):
        FoveateClassifier().fit(x, np.zeros(200))
    with pytest.raises(ValueError, match="invalid parameter"):
        FoveateClassifier().set_params(modle="x")
    with pytest.raises(fv.ConfigError, match="resnet20_cifar"):
        FoveateClassifier(model="resnet20_cifr").fit(x, y)
