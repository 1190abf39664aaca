"""Stages of a fit that end by a clock, which the tests set by hand."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

import foveate as fv
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess
from foveate.events import StageEvent
from foveate.runs.plan import Budget
from foveate.runs.time_budget import TimeBudget
from foveate.selection import candidates, halving, runners
from foveate.selection.candidates import Candidate, Measured
from foveate.train.recipe import Recipe


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def measured(model="resnet20_cifar", weights="lite", ms=1.0, macs=1):
    class Fake:
        median_ms = p10_ms = p90_ms = ms

    return Measured(Candidate(model, fv.variant("resnet20_cifar"), Preprocess(), weights), Fake(), 1, macs, 1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Counting takes no time."""
    module = importlib.import_module("foveate.cost.count")
    monkeypatch.setattr(module, "cost", lambda config, resolution: SimpleNamespace(macs=1, params=1))


@pytest.mark.parametrize(("until", "number"), [(1e9, 4), (25.0, 2), (12.0, 1), (-5.0, 1)])
def test_no_candidate_is_begun_that_would_not_end_in_time(until, number, clock, monkeypatch):
    def slow(candidate, counts, *_):
        clock.now += 10.0
        return measured(weights=None, macs=counts.macs)

    monkeypatch.setattr(candidates, "measure_candidate", slow)
    field = [Candidate(f"net{i}", fv.variant("resnet20_cifar"), Preprocess(resolution=32), None) for i in range(4)]
    told = []
    found = candidates.measure_all(field, Budget(), 1, until, told.append, clock=clock)
    assert len(found) == number
    assert number == 4 or any("are not measured" in e.text for e in told if isinstance(e, StageEvent))


def test_where_none_fits_measuring_ends_as_well(clock, monkeypatch):
    def slow(candidate, counts, *_):
        clock.now += 10.0
        return measured(weights=None, ms=50.0)

    monkeypatch.setattr(candidates, "measure_candidate", slow)
    field = [Candidate(f"net{i}", fv.variant("resnet20_cifar"), Preprocess(resolution=32), None) for i in range(9)]
    budget = Budget(max_latency_ms=1.0)
    assert len(candidates.measure_all(field, budget, 1, 20.0, lambda e: None, clock=clock)) <= 4


@pytest.fixture
def slow_features(clock, monkeypatch):
    """Features that take 0.1 s a picture."""

    def features(session, pictures):
        clock.now += 0.1 * len(pictures)
        return np.ones((len(pictures), 4), np.float32)

    monkeypatch.setattr(runners, "features", features)
    shared = runners.SharedPictures(open_data("digits"), "stop", lambda e: None)
    candidate = Candidate("net", fv.variant("resnet20_cifar"), Preprocess(resolution=16), "lite")
    return runners.Features("train", candidate, None, shared, clock)


@pytest.mark.parametrize(("until", "most"), [(1e9, 1500), (40.0, 400), (10.0, 100), (0.0, 40)])
def test_features_end_by_the_clock_and_the_least_is_always_there(until, most, slow_features, clock):
    slow_features.grow(1500, until)
    assert 40 <= slow_features.done <= max(40, most)
    assert clock.now <= max(until, 4.0)
    assert len(slow_features.x) == len(slow_features.y) == slow_features.done
    assert len(set(slow_features.y)) == 10  # in random order: every class is among the first


class Slow:
    """A runner whose rounds take much longer than they may."""

    def __init__(self, clock, takes):
        self.clock, self.takes, self.asked = clock, takes, []

    def run(self, number, until):
        self.asked.append(until - self.clock.now)
        self.clock.now += self.takes
        return 0.9, 0.1

    def keep(self, place):
        raise AssertionError("nothing is kept without a journal")


@pytest.mark.parametrize(("takes", "ran"), [(1.0, 6), (25.0, 4), (1000.0, 1)])
def test_six_slow_entrants_do_not_overrun_the_race(takes, ran, clock, monkeypatch):
    made = []

    def make(*_):
        made.append(Slow(clock, takes))
        return made[-1]

    monkeypatch.setattr(halving, "make_runner", make)
    entering, told = [measured(f"net{i}") for i in range(6)], []
    shared = runners.SharedPictures(open_data("digits"), "stop", lambda e: None)
    shared.fetch = lambda entering: None
    monkeypatch.setattr(halving, "promise_of", lambda m: (0.0, 0))
    entries = halving.successive_halving(entering, Recipe(), 90.0, 1, shared, told.append, clock=clock)
    assert len(made) == len(entries) == ran
    assert clock.now <= 90.0 + takes
    assert all(asked <= 90.0 for runner in made for asked in runner.asked)
    assert ran == 6 or any("left out of this round" in e.text for e in told if isinstance(e, StageEvent))


def test_from_scratch_a_round_keeps_time_for_its_evaluation(clock, monkeypatch):
    shared = runners.SharedPictures(open_data("digits"), "stop", lambda e: None)
    candidate = Candidate("net", fv.variant("resnet20_cifar"), Preprocess(resolution=16, resize=16), None)
    runner = runners.FromScratchRunner(candidate, Recipe(batch=8), shared, clock=clock)

    def steps():
        while True:
            clock.now += 1.0
            yield None

    def settle(*_):
        clock.now += 10.0
        raise StopIteration

    runner.steps = steps()
    monkeypatch.setattr(runners, "settle_statistics", settle)
    with pytest.raises(StopIteration):
        runner.run(0, 40.0)
    assert clock.now <= 40.0


def test_a_session_that_goes_on_counts_what_was_spent_before(clock):
    time = TimeBudget.start(100.0, clock=clock, spent_s=70.0)
    assert (time.spent_s, time.left_s, time.late) == (70.0, 30.0, False)
    clock.now = 54.0
    assert not time.late
    clock.now = 56.0
    assert time.late and time.left_s == 0.0


def test_a_compression_gets_what_the_run_has_left(clock):
    time = TimeBudget.start(100.0, compress=True, clock=clock)
    assert time.compress_left_s == 40.0
    clock.now = 75.0
    assert time.compress_left_s == 25.0
    clock.now = 130.0
    assert time.compress_left_s == 0.0


def test_every_stage_tells_what_is_left_of_the_whole(clock):
    told = []
    listener = TimeBudget.start(100.0, clock=clock).told(told.append)
    clock.now = 30.0
    listener(StageEvent("racing"))
    from foveate.report.progress import line

    assert line(told[0]) == "racing  (1m 10s of 1m 40s left)"


def test_the_end_keeps_time_for_many_test_pictures(clock):
    time = TimeBudget.start(100.0, clock=clock)
    assert time.kept_s(0.1, 35.0) == pytest.approx(35.3)
    assert time.kept_s(0.1, 1000.0) == 40.0
