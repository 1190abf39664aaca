"""Classical pipelines in a fit: the row beside the networks, and --models "classic:..."."""

import json
from dataclasses import replace

import pytest

import foveate as fv
from foveate.cli import main
from foveate.data.index import open_data
from foveate.events import silent
from foveate.runs.baselines import CLASSIC, read_classic
from foveate.runs.request import Asked
from foveate.runs.time_budget import TimeBudget
from foveate.selection import classical
from foveate.selection.classical import learn_beside

LONG = 20_000.0  # seconds: however busy the machine is


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def test_a_pipeline_beside_is_learnt_once_and_within_its_share(digits, tmp_path, monkeypatch):
    asked, time = Asked("digits", LONG), TimeBudget.start(LONG)
    learn_beside(tmp_path, digits, time, asked, silent)
    row = read_classic(tmp_path)
    assert row["val_accuracy"] > 0.95 < row["test_accuracy"] and row["seconds"] < time.classic_s
    before = (tmp_path / CLASSIC).read_bytes()
    monkeypatch.setattr(classical, "baseline", lambda *_: pytest.fail("learnt twice"))
    learn_beside(tmp_path, digits, time, asked, silent)
    assert (tmp_path / CLASSIC).read_bytes() == before


def test_without_time_nothing_is_learnt_and_nothing_fails(digits, tmp_path, monkeypatch):
    learn_beside(tmp_path, digits, TimeBudget.start(30.0), Asked("digits", 30.0), silent)
    assert not (tmp_path / CLASSIC).exists()
    monkeypatch.setattr(classical, "taste", lambda *_: (100.0, 100))  # a very slow machine
    learn_beside(tmp_path, digits, TimeBudget.start(LONG), Asked("digits", LONG), silent)
    assert read_classic(tmp_path) == {} and (tmp_path / CLASSIC).exists()


def test_few_pictures_are_enough_for_the_row(digits, tmp_path):
    train = digits.splits["train"]
    few = [i for c in range(10) for i in [j for j, y in enumerate(train.labels) if y == c][:5]]
    small = replace(digits, splits={**digits.splits, "train": classical.subset(train, few)})
    learn_beside(tmp_path, small, TimeBudget.start(LONG), Asked("digits", LONG), silent)
    assert read_classic(tmp_path)["test_accuracy"] > 0.6


@pytest.mark.slow
def test_fit_takes_a_pipeline_by_name(tmp_path, capsys):
    words = ["fit", "digits", "--models", "classic:hog", "--time", "1h", "--threads", "1", "--quiet", "--json"]
    assert main([*words, "--runs", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pipeline"]["features"] == ["hog(cell=4, size=16, pad=4)"] and found["test_accuracy"] > 0.97
    assert fv.load(f"{found['run']}/best").predict(open_data("digits").splits["test"].pixels[0])
    assert main(["fit", "--resume", found["run"], "--quiet"]) == 0  # finished: left as it is


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--models", "classic:x"), 2, "classic:hog"),
        (("--models", "classic:hog", "--max-latency", "0.001ms"), 4, "the quickest is hog"),
        (("--models", "classic:*", "--search", "auto", "--weights", "none"), 2, "leave"),
    ],
)
def test_what_can_not_be_is_one_line(words, code, text, tmp_path, capsys):
    assert main(["fit", "digits", *words, "--runs", str(tmp_path / "r"), "--threads", "1", "--quiet"]) == code
    err = capsys.readouterr().err
    assert text in err and err.count("\n") == 1 and not (tmp_path / "r").exists()
