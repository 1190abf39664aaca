"""A budget that no net of a space is within, refused before the first trial; the winner's last training."""

from types import SimpleNamespace

import pytest

import foveate as fv
from foveate.events import silent
from foveate.runs.plan import Budget
from foveate.search.space import Choice, Space
from foveate.train.recipe import Recipe
from foveate.workflows.search import floor
from foveate.workflows.search.design import Search
from foveate.workflows.search.final import not_below


@pytest.fixture
def counted(monkeypatch):
    """A net costs at least a million; every second choice is cheapest at its first value, the others at their last.

    Those that were counted.
    """
    seen = []

    def cost(net, resolution):
        seen.append(net)
        value = 1_000_000
        for i, token in enumerate(net):
            value *= token + 1 if i % 2 else 5 - token
        return SimpleNamespace(macs=value, params=value, inference_bytes=value)

    monkeypatch.setattr(floor, "cost", cost)
    monkeypatch.setattr(floor, "config_of", lambda space, net, dataset: net)
    return seen


def space(choices):
    return Space([Choice(f"c{i}", tuple(range(5))) for i in range(choices)], name="made")


def check(space, **limits):
    design = Search(data="d", name="d", fingerprint="f", space="made", budget=Budget(**limits))
    floor.check_reachable(design, space, None, silent)


@pytest.mark.parametrize("made", [space(2), space(9)], ids=["whole", "sampled"])
def test_an_impossible_budget_is_refused_with_the_floor(made, counted):
    with pytest.raises(fv.BudgetError, match=r"the smallest.*1\.00? ?M multiply-adds; allow more") as caught:
        check(made, max_macs=999_999)
    assert caught.value.exit_code == 4
    assert len(counted) < 200
    check(made, max_macs=1_000_000)


def test_each_limit_is_looked_at(counted):
    for limits in ({"max_size_bytes": 3_999_999}, {"max_memory_bytes": 999_999}):
        with pytest.raises(fv.BudgetError, match="no net of made fits the budget"):
            check(space(2), **limits)


def test_a_budget_that_is_reached_costs_few_counts_and_none_costs_nothing(counted):
    check(space(9), max_macs=10**12)
    assert len(counted) == 1
    check(space(9), time_s=5.0)
    assert len(counted) == 1


@pytest.mark.parametrize(("epochs", "ends", "short"), [(1, 3, True), (5, 5, True), (20, 20, False)])
def test_the_last_training_is_no_shorter_than_the_short_one(epochs, ends, short):
    proxy = Recipe(epochs=3, ema=0.0)
    design = Search(data="d", name="d", fingerprint="f", space="made", proxy=proxy)
    recipe = not_below(Recipe(epochs=epochs, ema=0.99), design, silent)
    assert recipe.epochs == ends and (recipe.ema == 0.0) is short
