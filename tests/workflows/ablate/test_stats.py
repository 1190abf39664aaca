"""Statistics of paired seeds against scipy, closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.workflows.ablate.stats import (
    difference,
    effects,
    holm,
    of_differences,
    one_seed,
    sign_flip,
    spread,
    t_quantile,
    t_two_sided,
)

VALUES = np.random.default_rng(0).normal(0.9, 0.02, (8, 7))


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_the_interval_over_seeds_is_scipys(n):
    for row in VALUES[:, :n]:
        s = spread(row.tolist())
        theirs = scipy.stats.t.interval(0.95, n - 1, loc=row.mean(), scale=scipy.stats.sem(row))
        assert (s.low, s.high) == pytest.approx(theirs, rel=1e-12)
        assert (s.mean, s.sd) == pytest.approx((row.mean(), row.std(ddof=1)), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_the_paired_test_and_its_interval_are_scipys(n):
    for a, b in itertools.pairwise(VALUES[:, :n]):
        ours, theirs = difference(a.tolist(), b.tolist()), scipy.stats.ttest_rel(a, b)
        interval = theirs.confidence_interval(0.95)
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert (ours.wins, ours.losses) == ((a > b).sum(), (a < b).sum())


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_the_exact_test_is_scipys_permutation_of_pairs(n):
    for a, b in itertools.pairwise(VALUES[:, :n]):
        theirs = scipy.stats.permutation_test(
            (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=math.inf
        )
        assert difference(a.tolist(), b.tolist()).p_exact == pytest.approx(theirs.pvalue, rel=1e-12)


def test_students_t_is_cauchys_for_one_degree_and_has_a_closed_form_for_two():
    assert t_quantile(1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    a = 0.95  # t(2): x = 2 a / sqrt(2 (1 - a^2)) with a = 2 p - 1
    assert t_quantile(2) == pytest.approx(2 * a / math.sqrt(2 * (1 - a * a)), rel=1e-12)
    assert t_two_sided(-3.0, 1) == pytest.approx(1 - 2 / math.pi * math.atan(3.0), rel=1e-12)
    assert t_quantile(4) == pytest.approx(2.7764451, abs=5e-8)  # every printed table


def test_five_seeds_that_all_agree_can_not_be_below_a_sixteenth():
    assert sign_flip([0.1, 0.2, 0.3, 0.1, 0.5]) == 2 / 2**5
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip([1.0] * 19) is None  # too many to try all


def test_equal_differences_have_no_t_test_and_no_interval():
    d = of_differences([0.01, 0.01, 0.01])
    assert (d.p, d.low, d.high, d.p_exact, d.wins) == (None, None, None, 0.25, 3)
    same = difference([0.9, 0.8], [0.9, 0.8])
    assert (same.mean, same.p, same.p_exact, same.wins, same.losses) == (0.0, None, 1.0, 0, 0)


def test_one_seed_has_wilsons_interval_and_no_test():
    s = one_seed(167, 179)
    theirs = scipy.stats.binomtest(167, 179).proportion_ci(0.95, "wilson")
    assert (s.low, s.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    d = difference([0.9], [0.8])
    assert (d.n, d.mean, d.p, d.p_exact) == (1, pytest.approx(0.1), None, None)


def closed_testing(ps):
    """Holm's procedure is Bonferroni over every subset that holds the hypothesis (Marcus, Peritz, Gabriel 1976)."""
    n = range(len(ps))
    subsets = [s for k in range(1, len(ps) + 1) for s in itertools.combinations(n, k)]
    return [max(min(1.0, len(s) * min(ps[j] for j in s)) for s in subsets if i in s) for i in n]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(ps):
    assert holm(ps) == pytest.approx(closed_testing(ps), rel=1e-12)


def test_holm_leaves_out_rows_without_a_test():
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([]) == []


def test_effects_are_the_coefficients_of_least_squares():
    """Main effects are twice, interactions of two four times the coefficients of factors coded as -1 and 1."""
    factors, random = ["a", "b", "c"], np.random.default_rng(1)
    chosen = [frozenset(c) for k in range(4) for c in itertools.combinations(factors, k)]
    rows = {on: random.random(4).tolist() for on in chosen}
    code = np.array([[1 if f in on else -1 for f in factors] for on in chosen], float)
    pairs = list(itertools.combinations(range(3), 2))
    columns = [np.ones(8), *code.T, *(code[:, i] * code[:, j] for i, j in pairs), code.prod(1)]
    beta = np.linalg.lstsq(np.stack(columns, 1), np.array([rows[on] for on in chosen]), rcond=None)[0]
    found = effects(rows, factors)
    assert [name for name, _ in found] == ["a", "b", "c", "a x b", "a x c", "b x c"]
    for i, (_, values) in enumerate(found):
        assert values == pytest.approx((beta[1 + i] * (2 if i < 3 else 4)).tolist(), abs=1e-12)


def test_a_factor_that_adds_its_worth_everywhere_has_that_main_effect_and_no_interaction():
    rows = {frozenset(): [0.5], frozenset("a"): [0.6], frozenset("b"): [0.7], frozenset("ab"): [0.8]}
    assert dict(effects(rows, ["a", "b"])) == {
        "a": [pytest.approx(0.1)], "b": [pytest.approx(0.2)], "a x b": [pytest.approx(0.0, abs=1e-12)]
    }  # fmt: skip
