"""Studies on a made-up table: budgets, failures, going on, and every sampler ahead of chance."""

import functools
import itertools
import math

import numpy as np
import pytest

from foveate.search import SAMPLERS, SINGLE, SPACES, sampler
from foveate.search.compare import compare, compare_fronts, reached
from foveate.search.study import run
from foveate.search.tables import read_table

SPACE = SPACES["nasbench_macro"]()
WEIGHTS = np.random.default_rng(0).normal(0, 1, (8, 3))


def score(net):
    """A net's quality: what each layer brings, and pairs of layers that like each other."""
    alike = sum(a == b for a, b in itertools.pairwise(net))
    return float(sum(WEIGHTS[i, t] for i, t in enumerate(net)) + 0.5 * alike)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "made.csv"
    rng = np.random.default_rng(1)
    lines = ["key,val,test,cost"]
    for net in SPACE.enumerate():
        value = score(SPACE.canonical(net))
        lines.append(f"{SPACE.text(net)},{value + rng.normal(0, 0.1)},{value},{sum(net) + 1}")
    path.write_text("\n".join(lines))
    return read_table(path, SPACE)


def test_a_budget_counts_different_nets_and_a_failure_is_not_asked_again():
    asked = []

    def evaluate(net):
        asked.append(net)
        if net[0] == 0:
            raise MemoryError("injected")
        return math.nan if net[0] == 1 else score(net)

    trials = run(SPACE, evaluate, sampler("random", SPACE, 0), budget=60)
    assert len(trials) == len(asked) == len(set(asked)) == 60
    failed = [t for t in trials if t.values is None]
    assert {t.net[0] for t in failed} == {0, 1} and all(t.error for t in failed)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_goes_on_in_its_storage_as_if_it_had_not_stopped(name, tmp_path):
    straight = run(SPACE, score, sampler(name, SPACE, 3), budget=24)
    storage = f"sqlite:///{tmp_path}/study.db"
    run(SPACE, score, sampler(name, SPACE, 3), budget=13, storage=storage)
    seen = []
    again = run(SPACE, lambda net: seen.append(net) or score(net), sampler(name, SPACE, 3), budget=24, storage=storage)
    assert len(again) == 24 and len(seen) == 11
    upto = 13 if name in ("tpe", "nsga2", "random") else 24  # Optuna's own do not keep their generator
    assert [t.net for t in again[:upto]] == [t.net for t in straight[:upto]]


@pytest.fixture(scope="module")
def means(table):
    """(sampler, budget) -> mean over five seeds of what it reached on the table; each sampler runs once."""

    @functools.cache
    def lines_of(name):
        return list(compare(table, SPACE, [name], "val", "test", budgets=(60, 80), seeds=5))

    return lambda name, budget: next(line.mean for line in lines_of(name) if line.budget == budget)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "random"])
def test_every_sampler_is_ahead_of_chance(name, means):
    assert means(name, 80) > means("random", 80)


def test_the_predictor_is_ahead_of_tpe(means):
    assert means("predictor", 60) > means("tpe", 60)


def test_of_nets_that_look_equal_the_mean_is_reported():
    seen, reported = np.array([1.0, math.nan, 3.0, 3.0, 2.0]), np.array([10.0, 99.0, 20.0, 30.0, 50.0])
    assert reached(seen, reported, (1, 2, 3, 5)) == [10, 10, 20, 25]


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n not in SINGLE])
def test_shares_of_the_front_grow_and_end_at_one(name, table):
    found = list(compare_fronts(table, SPACE, [name], ["test", "cost"], budgets=(20, 40), seeds=2))
    assert 0 < found[0].mean <= found[1].mean <= 1 + 1e-12
