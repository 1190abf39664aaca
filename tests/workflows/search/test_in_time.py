"""A search that ends when it should: short trainings by measured steps, trials that the clock cuts, what is kept."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from small_space import write_space

from foveate.config import replace
from foveate.data.index import open_data
from foveate.runs.plan import Budget
from foveate.runs.request import write_spent
from foveate.runs.time_budget import TimeBudget
from foveate.search.study import Found
from foveate.workflows.search import in_time as room
from foveate.workflows.search.design import LEAST, Search, fitted_space
from foveate.workflows.search.evaluators import train_short
from foveate.workflows.search.objective import material
from foveate.workflows.search.run import designed


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """(design, space, data) of a search of digits for 60 s."""
    dataset = open_data("digits")
    space = write_space(tmp_path_factory.mktemp("space"))
    rough = Search(
        data="digits", name="digits", fingerprint=dataset.fingerprint, space=space, budget=Budget(time_s=60.0)
    )
    design = designed(rough, dataset)
    return design, fitted_space(design.space, dataset, None)[1], dataset


@pytest.mark.parametrize("one_s", [1e-5, 2e-3, 8e-3, 0.1, 10.0])
def test_so_many_trials_fit_as_a_search_needs(asked, one_s, monkeypatch):
    design, space, dataset = asked
    monkeypatch.setattr(room, "time_picture", lambda *_: one_s)
    told = []
    made = room.in_time(design, space, dataset, 179, told.append)
    n = len(dataset.splits["train"])
    looked = room.FORWARD * (179 + room.ANEW * design.proxy.batch)
    trial_s = made.proxy.epochs * (made.pictures + looked) * one_s
    assert made.proxy.epochs >= 1 and made.pictures >= min(n, room.FEWEST)
    if trial_s > 1.001 * design.share * 60 / LEAST:  # shorter than the shortest can not be
        assert (made.proxy.epochs, made.pictures) == (1, room.FEWEST)
    assert (made == design) == (one_s == 1e-5) == (not told)
    if made.pictures < n:
        assert made.proxy.batch <= max(8, made.pictures // 8) and made.proxy.optim.lr <= design.proxy.optim.lr


def test_without_a_time_or_a_training_nothing_is_timed(asked, monkeypatch):
    design, space, dataset = asked
    monkeypatch.setattr(room, "time_picture", lambda *_: pytest.fail("timed"))
    for other in (replace(design, budget=Budget()), replace(design, evaluate="zen")):
        assert room.in_time(other, space, dataset, 179, print) is other


def test_a_trial_that_is_over_time_is_judged_as_it_stands(asked, tmp_path):
    design, space, dataset = asked
    facts: dict = {}
    goods = material(design, space, dataset, list, tmp_path, time.monotonic() - 1)
    config = space.config(space.sample(np.random.default_rng(0)))
    found = train_short(goods, replace(config, num_classes=10), facts.__setitem__)
    assert 0 < facts["cut_off"] < 1 and 0 <= found == facts["val_accuracy"] <= 1 and "curve" not in facts


def test_the_end_is_kept_and_dear_ends_leave_the_winner_alone():
    now = [0.0]
    for whole, one_s, count in ((30.0, 1.0, 1), (600.0, 2.0, 2), (3600.0, 2.0, 3), (3600.0, 300.0, 1)):
        design = Search(data="", name="", fingerprint="", space="", budget=Budget(time_s=whole), front=3)
        clock = TimeBudget(whole, -0.6 * whole, clock=lambda: now[0])
        left, models = room.last_trainings(design, clock, one_s)
        assert models == count
        assert left == pytest.approx(0.4 * whole - count * clock.kept_s(one_s))
    endless = Search(data="", name="", fingerprint="", space="", front=3)
    assert room.last_trainings(endless, room.clock_of(Path(), endless), 1.0) == (None, 3)


def test_the_time_of_earlier_sessions_counts(tmp_path):
    design = Search(data="", name="", fingerprint="", space="", budget=Budget(time_s=100.0))
    write_spent(tmp_path, TimeBudget(100.0, 0.0, clock=lambda: 50.0))
    clock = room.clock_of(tmp_path, design)
    assert 50 <= clock.spent_s < 51
    assert room.trials_until(design, clock) - time.monotonic() == pytest.approx(10, abs=1)
    assert room.usual_s([Found((), None, {"seconds": s}, 0) for s in (1.0, 9.0, 2.0)]) == 2.0
    assert math.isinf(room.clock_of(tmp_path, replace(design, budget=Budget())).whole_s)
