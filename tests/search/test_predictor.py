"""The predictor: ahead of TPE and chance on made-up tables, the same again by seed and from storage; its candidates."""

import itertools
import statistics
import sys

import numpy as np
import pytest

from foveate.search import SPACES, sampler
from foveate.search.samplers.pool import Pool
from foveate.search.samplers.predictor import Predictor
from foveate.search.samplers.searcher import History
from foveate.search.space import Choice, Space
from foveate.search.study import run

LARGE = Space([Choice(f"layer{i}", ("3", "5", "7", "skip")) for i in range(12)], name="large")  # 16.8 million nets
DEEP = Space(
    [
        Choice("depth", (1, 2, 3)),
        Choice("width1", (8, 16, 32)),
        Choice("width2", (8, 16, 32), when=(("depth", (2, 3)),)),
        Choice("width3", (8, 16, 32), when=(("depth", (3,)),)),
        Choice("gate", ("none", "se")),
    ],
    name="deep",
)
RNG = np.random.default_rng(7)
EACH = RNG.normal(0, 1, (12, 4))
PAIRS = RNG.normal(0, 0.5, (12, 4, 4))


def quality(net):
    """What each layer brings and each pair of neighbouring layers."""
    pairs = sum(PAIRS[i, a, b] for i, (a, b) in enumerate(itertools.pairwise(net)))
    return float(sum(EACH[i, t] for i, t in enumerate(net)) + pairs)


def observed(net):
    """The quality with the luck of one training, always the same for the same net."""
    return quality(net) + float(np.random.default_rng(net).normal(0, 0.3))


def reached(name, budget, seeds=4):
    bests = []
    for seed in range(seeds):
        done = run(LARGE, observed, sampler(name, LARGE, seed), budget=budget)
        bests.append(quality(max(done, key=lambda trial: trial.values).net))
    return statistics.mean(bests)


def test_it_is_ahead_of_tpe_and_chance_in_a_space_too_large_to_list():
    ours, tpe, chance = (reached(name, 80) for name in ("predictor", "tpe", "random"))
    assert ours > tpe > chance


def test_the_same_seed_is_the_same_search_and_another_is_not():
    first, again, other = (
        [t.net for t in run(LARGE, observed, sampler("predictor", LARGE, seed), budget=20)] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("stop", [23])
def test_a_stored_study_goes_on_with_the_same_nets(stop, tmp_path):
    straight = [t.net for t in run(LARGE, observed, sampler("predictor", LARGE, 5), budget=26)]
    storage = f"sqlite:///{tmp_path}/study.db"
    run(LARGE, observed, sampler("predictor", LARGE, 5), budget=stop, storage=storage)
    again = run(LARGE, observed, sampler("predictor", LARGE, 5), budget=26, storage=storage)
    assert [t.net for t in again] == straight


def test_only_the_order_of_the_scores_counts():
    one, other = (
        [t.net for t in run(LARGE, score, sampler("predictor", LARGE, 0), budget=25)]
        for score in (observed, lambda net: -np.exp(-observed(net)) * 1e6)
    )
    assert one == other


@pytest.mark.parametrize("space", [DEEP, LARGE, SPACES["nasbench201"]()], ids=lambda s: s.name)
def test_candidates_are_new_canonical_nets_of_the_space_and_hold_the_neighbours(space):
    rng = np.random.default_rng(0)
    history = History(space)
    for _ in range(5):
        history.add(space.sample(rng), (0.0,))
    good = history.nets[0]
    drawn = Pool(space).draw(history, [good], 50, rng)
    assert len(set(drawn)) == len(drawn) and not history.measured & set(drawn)
    assert all(space.canonical(space.check(net)) == net for net in drawn)
    one_away = {
        n
        for n in map(space.canonical, space.neighbours(good))
        if sum(a != b for a, b in zip(n, good, strict=True)) == 1
    }
    assert space.has_conditions or one_away - history.measured <= set(drawn)


@pytest.mark.parametrize("listed", [True, False])
def test_conditional_candidates_reach_every_net(listed, monkeypatch):
    if not listed:
        monkeypatch.setattr(sys.modules[Pool.__module__], "ALL", 0)
    drawn = Pool(DEEP).draw(History(DEEP), [(2, 0, 0, 0, 0)], 3000, np.random.default_rng(0))
    assert set(drawn) == set(DEEP.enumerate())


def test_the_counts_say_how_often_a_value_is_chosen():
    made = Predictor(LARGE)
    nets = [(0,) * 12, (3, 1, 1, *(0,) * 9), (1, 3, 0, 1, *(0,) * 8)]
    onehot, counts = made._encodings(nets)
    assert onehot.shape == (3, 48)
    assert counts.tolist() == [[12, 0, 0, 0], [9, 2, 0, 1], [9, 2, 0, 1]]
