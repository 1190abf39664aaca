"""Training by the clock, with a clock that is set by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from foveate.config import replace
from foveate.data.index import Split
from foveate.data.load import evaluation_pictures, training_pictures
from foveate.data.preprocess import Preprocess
from foveate.runs.setup import make_state
from foveate.train import engine
from foveate.train.checkpoint import Progress
from foveate.train.engine import Job, run_epochs
from foveate.train.pace import Pace
from foveate.train.recipe import Augment, Recipe, Schedule
from foveate.zoo.families.resnet import network as resnet

P = Preprocess(resolution=8, resize=8, fit="squash")
NET = resnet.ResNetConfig(
    stages=(resnet.Stage(8, (8,), 1),), block="basic", stem="cifar", pool="none", stem_widths=(8,), num_classes=2
)
RECIPE = Recipe(
    epochs=10, batch=8, augment=Augment(flip=False), schedule=Schedule(warmup=0.0), precision="fp32", layout="nchw"
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(seconds, step_s, monkeypatch, recipe=RECIPE, evaluate_s=1.0, most=0):
    """A training of 4 steps an epoch that takes step_s(number) a step; (progress, clock, rates)."""
    clock, rates = Clock(), []
    split = Split(
        tuple(f"p/{i}" for i in range(32)), tuple(i % 2 for i in range(32)), np.zeros((32, 8, 8, 3), np.uint8)
    )
    job = Job("x", training_pictures(split, 8).load(), evaluation_pictures(split, P).load(), P, recipe, ("a", "b"), {})
    real, row = engine.train, engine._row

    def slow(*options):
        for step in real(*options):
            clock.now += step_s(step.number)
            rates.append(step.lr)
            yield step

    def judged(*options):
        clock.now += evaluate_s if options[-1] else 0.0
        return row(*options)

    monkeypatch.setattr(engine, "train", slow)
    monkeypatch.setattr(engine, "_row", judged)
    progress, pace = Progress(), Pace(lambda: seconds - clock.now, clock, ratio=1.0 if most else 0.0, most=most)
    run_epochs(make_state(NET, recipe, "cpu"), job, progress, lambda event: None, lambda: None, pace=pace)
    return progress, clock.now, rates


def test_a_training_that_fits_is_left_alone(monkeypatch):
    progress, taken, _ = run(1000.0, lambda n: 1.0, monkeypatch)
    assert (len(progress.rows), progress.steps, progress.over, taken) == (10, 0, False, 50.0)


@pytest.mark.parametrize("seconds", [15.0, 23.0, 31.0, 49.0])
def test_epochs_that_do_not_fit_are_left_out_and_the_rate_falls_to_its_end(seconds, monkeypatch):
    progress, taken, rates = run(seconds, lambda n: 1.0, monkeypatch)
    assert taken <= seconds and seconds - taken < 4.0
    assert rates[-1] < 0.5 * rates[0]
    assert progress.rows[-1]["step"] == progress.steps
    assert progress.rows[-1]["epoch"] == -(-progress.steps // 4)


@pytest.mark.parametrize("seconds", [8.0, 12.0, 13.0, 17.0, 30.0, 60.0])
def test_a_training_with_time_left_becomes_longer(seconds, monkeypatch):
    """One epoch was planned, of 40 steps at most: a step takes a second and so does an evaluation."""
    progress, taken, rates = run(seconds, lambda n: 1.0, monkeypatch, replace(RECIPE, epochs=1), most=40)
    assert taken <= min(seconds, 50.0) and min(seconds, 50.0) - taken < 3.0, (taken, progress.steps)
    assert len(rates) == (progress.steps or 4) and rates[-1] < 0.5 * rates[0]
    again, _, _ = run(seconds, lambda n: 1.0, monkeypatch, replace(RECIPE, epochs=1))
    assert (len(again.rows), again.steps) == (1, 0)  # and is left alone where that is not asked for


@pytest.mark.parametrize("after", [2, 6, 9, 13])
def test_a_machine_that_becomes_slow_is_noticed(after, monkeypatch):
    progress, taken, _ = run(60.0, lambda n: 1.0 if n < after else 6.0, monkeypatch)
    assert taken <= 66.0
    assert progress.rows[-1]["val_accuracy"] is not None and progress.best_epoch > 0


def test_an_epoch_is_cut_where_not_one_fits(monkeypatch):
    recipe = replace(RECIPE, evaluate_from=0.6)
    progress, taken, _ = run(6.0, lambda n: 2.0, monkeypatch, recipe)
    assert progress.over and len(progress.rows) == 1 and progress.rows[0]["step"] < 4
    assert progress.best_epoch == 1 and taken <= 7.0
    assert torch.isfinite(torch.tensor(progress.rows[0]["loss"]))


def test_without_a_clock_nothing_ends_early(monkeypatch):
    clock = Clock()
    pace = Pace(lambda: 10.0, clock)
    assert not pace.over() and pace.fitting(0, 4) > 10**6
    clock.now = 3.0
    pace.stepped()
    assert pace.step_s == 3.0 and pace.fitting(4, 4) == 3 and pace.fitting(1, 1) == 3
    assert dataclasses.replace(pace, left=lambda: 3.0).over()
