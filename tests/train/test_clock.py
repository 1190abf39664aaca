"""The wall clock jumps an hour forward and back while a training and a search run: nothing is counted by it."""

import itertools
import signal
import time

import pytest
import torch
from small_space import search_only, write_space

from foveate.errors import Interrupted
from foveate.events import StepEvent, silent
from foveate.runs.complete import read_plan
from foveate.runs.plan import prepare
from foveate.runs.time_budget import TimeBudget
from foveate.runs.training import train_in
from foveate.zoo.tensors import read_tensors

JUMPS = (0.0, 3600.0, -3600.0, 7200.0)  # seconds


@pytest.fixture
def jumping(monkeypatch):
    """time.time jumps at every call, local time with it."""
    real, turns = time.time, itertools.cycle(JUMPS)
    monkeypatch.setattr(time, "time", lambda: real() + next(turns))
    monkeypatch.setattr(
        time, "strftime", lambda form, *a, plain=time.strftime: plain(form, time.localtime(time.time()))
    )


def test_a_training_loses_no_checkpoint_and_no_time_left_is_negative(tmp_path, jumping):
    plan, dataset = prepare(
        "digits", "resnet20_cifar", recipe="cifar_standard", overrides=("epochs=2", "batch=512", "resolution=8")
    )
    left = []

    def stops(event):
        if isinstance(event, StepEvent):
            left.append((event.step, event.seconds_left, event.images_per_s))
            if len(left) == 3:
                signal.raise_signal(signal.SIGTERM)

    for name in ("whole", "halved"):
        (tmp_path / name).mkdir()
    train_in(tmp_path / "whole", plan, dataset, silent)
    with pytest.raises(Interrupted, match="stopped at step 3 and saved"):
        train_in(tmp_path / "halved", plan, dataset, stops)
    trained = train_in(tmp_path / "halved", read_plan(tmp_path / "halved"), dataset, stops, resume=True)
    assert [step for step, *_ in left] == list(range(1, left[-1][0] + 1))  # none again, none left out
    assert all(seconds >= 0 and rate > 0 for _, seconds, rate in left) and trained.seconds > 0
    one, other = (read_tensors(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "halved"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_budget_of_time_is_no_shorter_for_it(jumping):
    budget = TimeBudget.start(100.0)
    assert 90 < budget.left_s <= 100


def test_a_search_keeps_its_trials(tmp_path, jumping):
    """By the time of the database as well: a trial is not given up because its beginning lies an hour back."""
    found = search_only(write_space(tmp_path), tmp_path, workers=1, trials=2)
    assert 1 <= len(found) <= 2 and all(f.values is not None and f.facts["seconds"] >= 0 for f in found)
