"""Rewards and hypervolumes on numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foveate.errors import ConfigError
from foveate.runs.plan import Budget
from foveate.search.hypervolume import hypervolume, pareto
from foveate.search.rewards import REWARDS, make_reward, mnasnet_hard, mnasnet_soft, strict, tunas
from foveate.workflows.search.run import search


def test_the_soft_reward_orders_nets_alike_for_every_target():
    nets = [(0.7, 50.0), (0.75, 120.0), (0.72, 60.0), (0.78, 400.0)]
    orders = {tuple(sorted(range(4), key=lambda i: mnasnet_soft(*nets[i], target))) for target in (10.0, 80.0, 1000.0)}
    assert len(orders) == 1
    assert mnasnet_soft(0.75, 160.0, 80.0) == pytest.approx(0.75 * 2**-0.07)


def test_hard_absolute_and_strict_rewards():
    assert mnasnet_hard(0.75, 79.0, 80.0) == 0.75 and mnasnet_hard(0.75, 160.0, 80.0) == pytest.approx(0.375)
    assert tunas(0.75, 60.0, 80.0) == pytest.approx(0.75 - 0.07 * 0.25)
    over = [strict(0.99, latency, 80.0) for latency in (80.01, 100.0, 400.0)]
    assert strict(0.01, 80.0, 80.0) == 0.01 and all(r < 0 for r in over) and over == sorted(over, reverse=True)


@pytest.mark.parametrize("name", [n for n in REWARDS if n != "accuracy"])
def test_a_latency_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match="both must be above 0"):
        REWARDS[name](0.5, 0.0, 80.0)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_volume_is_that_of_inclusion_and_exclusion(objectives):
    rng = np.random.default_rng(objectives)
    for _ in range(20):
        points, corner = rng.random((6, objectives)), np.full(objectives, 0.1)
        volume = 0.0
        for size in range(1, 7):
            for some in itertools.combinations(points, size):
                volume -= (-1) ** size * np.prod(np.maximum(np.min(some, axis=0) - corner, 0))
        assert hypervolume(points, corner) == pytest.approx(volume, abs=1e-12)


def test_the_front_is_what_nothing_dominates():
    points = np.random.default_rng(0).random((200, 3))
    slow = [i for i, p in enumerate(points) if not any((q >= p).all() and (q > p).any() for q in points)]
    assert pareto(points).tolist() == slow
    assert pareto(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [1] or len(pareto(np.ones((2, 2)))) == 1


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    points=arrays.arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.integers(-2, 4)),
    order=st.randoms(use_true_random=False),
)
def test_the_volume_is_the_number_of_unit_cells_below_the_points(points, order):
    """Of points on a grid: counted cell by cell; equal points, an order of rows or columns and a shift mean nothing."""
    corner = np.zeros(points.shape[1])
    cells = itertools.product(range(4), repeat=points.shape[1])
    wanted = sum(any((point > cell).all() for point in points) for cell in map(np.array, cells))
    values = points.astype(float)
    assert hypervolume(values, corner) == wanted
    rows, columns = list(range(len(points))), list(range(points.shape[1]))
    order.shuffle(rows), order.shuffle(columns)
    assert hypervolume(np.vstack([values[rows], values[:1]])[:, columns] + 3, corner + 3) == wanted
    front = pareto(values)
    assert hypervolume(values[front], corner) == wanted
    assert len({tuple(row) for row in points[front].tolist()}) == len(front) > 0
    for i, point in enumerate(points):  # a point is on the front, or one of the front is at least as good everywhere
        assert i in front or (points[front] >= point).all(1).any()


def test_a_reward_takes_its_exponent():
    assert make_reward("mnasnet_soft(w=-0.15)")(0.75, 160.0, 80.0) == pytest.approx(0.75 * 2**-0.15)
    assert make_reward("mnasnet_hard(w=-2)")(0.75, 160.0, 80.0) == pytest.approx(0.75 / 4)
    assert make_reward("tunas(b=-0.5)")(0.75, 60.0, 80.0) == pytest.approx(0.75 - 0.5 * 0.25)
    assert make_reward("strict", limited=False) is strict and make_reward("accuracy", limited=False)(0.5, 1, 1) == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mnasnet", "did you mean mnasnet_"),
        ("mnasnet_soft(b=-0.1)", 'unknown option "b"'),
        ("mnasnet_soft(w=0.15)", "a number from -100 to 0"),
        ("tunas(b='x')", "a number from -100 to 0"),
        ("tunas(b=-1e999)", "a number from -100 to 0"),
        ("strict(w=-1)", "strict takes none"),
        ("mnasnet_soft(-0.1)", "expected a name or a call"),
    ],
)
def test_a_reward_that_is_none_is_one_line(text, says):
    with pytest.raises(ConfigError) as caught:
        make_reward(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["mnasnet_soft", "mnasnet_hard(w=-2)", "tunas"])
def test_a_reward_that_weighs_a_limit_needs_one(text):
    with pytest.raises(ConfigError, match="there is none; give --max-latency, --max-size or --max-macs"):
        search("no such folder", "mnasnet", reward=text, budget=Budget(time_s=60))
    with pytest.raises(ConfigError, match="leave one of both out"):
        search("no such folder", "mnasnet", reward=text, budget=Budget(max_macs=9), objectives=("accuracy", "macs"))
