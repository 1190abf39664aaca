"""foveate.cost.other_devices: a device from a few samples, where the truth is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from foveate.cost.other_devices import _process, fit
from foveate.errors import ConfigError


def devices(n=400, m=6, seed=0):
    """(n, m) milliseconds: each device weighs three hidden costs of a network in its own way."""
    rng = np.random.default_rng(seed)
    hidden = np.exp(rng.normal(0, 0.7, (n, 3)))
    return hidden, hidden @ rng.uniform(0.1, 2.0, (3, m))


def test_a_device_that_is_another_one_twice_as_fast_is_found_from_three_samples():
    _, known = devices()
    made = fit(known[:3, :1], known[:3, 0] / 2)
    assert made.predict(known[:, :1]) == pytest.approx(known[:, 0] / 2, rel=0.05)


def test_weights_are_never_negative_and_the_device_that_is_alike_gets_the_most():
    known = np.exp(np.random.default_rng(0).normal(size=(400, 20)))  # nothing in common
    made = fit(known[:10], known[:10, 4] ** 1.1)
    assert (made.weights >= 0).all() and made.weights.argmax() == 4


def test_ten_samples_of_a_mixture_rank_the_rest():
    _, known = devices(m=8)
    truth = known[:, 0] + 0.5 * known[:, 3]
    scores = []
    for seed in range(5):
        few = np.random.default_rng(seed).choice(len(truth), 10, replace=False)
        scores.append(spearmanr(fit(known[few], truth[few]).predict(known), truth).statistic)
    assert np.mean(scores) > 0.97


def test_features_say_what_no_known_device_does_once_there_are_many_samples():
    hidden, known = devices()
    features = np.log(hidden)
    truth = known[:, 0] * np.exp(np.sin(2 * features[:, 1]))
    few, rest = np.arange(200), np.arange(200, 400)
    without = fit(known[few], truth[few]).predict(known[rest])
    made = fit(known[few], truth[few], features[few]).predict(known[rest], features[rest])
    assert spearmanr(made, truth[rest]).statistic > spearmanr(without, truth[rest]).statistic + 0.03


def test_features_alone_are_enough():
    hidden, known = devices()
    features, few = np.log(hidden), np.arange(100)
    made = fit(np.zeros((100, 0)), known[few, 0], features[few])
    assert spearmanr(made.predict(np.zeros((400, 0)), features)[100:], known[100:, 0]).statistic > 0.98


def test_features_of_pure_noise_do_no_harm_to_a_good_mixture():
    _, known = devices(m=8)
    noise, few = np.random.default_rng(1).normal(size=(400, 5)), np.arange(10)
    truth = known[:, 0] + 0.5 * known[:, 3]
    plain = fit(known[few], truth[few]).predict(known)
    assert spearmanr(fit(known[few], truth[few], noise[few]).predict(known, noise), plain).statistic > 0.98


def test_the_process_is_that_of_scikit_learn_for_the_same_kernel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = np.sin(x[:, 0]) + 0.1 * rng.normal(size=60)
    length, pull = _process(x, y)
    best = -np.inf
    for amplitude in (0.01, 0.03, 0.1, 0.3, 1.0):
        for noise in (0.01, 0.03, 0.1, 0.3):
            kernel = ConstantKernel(amplitude, "fixed") * RBF(length, "fixed") + WhiteKernel(noise, "fixed")
            model = GaussianProcessRegressor(kernel, alpha=0, optimizer=None).fit(x, y)
            if model.log_marginal_likelihood_value_ > best:
                best, mean = model.log_marginal_likelihood_value_, model.predict(x)
    squares = ((x[:, None] - x) ** 2).sum(2)
    assert np.exp(-squares / (2 * length**2)) @ pull == pytest.approx(mean, abs=1e-8)


@pytest.mark.parametrize(
    ("known", "latency", "features", "message"),
    [
        (np.ones((2, 1)), [1.0, 2.0], None, "2 samples of this device; at least 3"),
        (np.ones((3, 1)), [1.0, 2.0, 0.0], None, "must be a positive number"),
        (np.ones((3, 1)), [1.0, 2.0, np.nan], None, "must be a positive number"),
        (np.ones((4, 1)), [1.0, 2.0, 3.0], None, "3 samples, 4 rows of known devices"),
        (np.zeros((3, 0)), [1.0, 2.0, 3.0], None, "no known device and no features"),
        (np.ones(3), [1.0, 2.0, 3.0], None, "expected \\(networks, columns\\)"),
    ],
)
def test_what_can_not_be_fitted_is_said_in_a_line(known, latency, features, message):
    with pytest.raises(ConfigError, match=message):
        fit(known, latency, features)


def test_other_devices_or_missing_features_are_refused_when_predicting():
    hidden, known = devices()
    with pytest.raises(ConfigError, match="3 known devices; expected 6, as in the samples"):
        fit(known[:9], known[:9, 0]).predict(known[:, :3])
    truth = known[:, 0] * np.exp(np.sin(2 * np.log(hidden[:, 1])))
    with pytest.raises(ConfigError, match="features are missing"):
        fit(known[:99], truth[:99], np.log(hidden[:99])).predict(known)


def test_a_device_on_which_all_samples_take_equally_long_tells_nothing_and_does_no_harm():
    _, known = devices()
    known = known.copy()
    known[:10, 2] = 5.0
    assert np.isfinite(fit(known[:10], known[:10, 0]).predict(known)).all()
