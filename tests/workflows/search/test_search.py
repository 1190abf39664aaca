"""Search on pictures: from a space in a file to a trained winner, stopped and gone on with."""

import json
import re
import signal
import time

import forked
import pytest
from small_space import SHORT, brief_recipe, search_only, write_space

import foveate as fv
from foveate.events import StageEvent
from foveate.runs.plan import Budget
from foveate.search.study import Found
from foveate.workflows.search.baselines import verdict
from foveate.workflows.search.run import resume_search, search


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_space(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    told = []
    made = search(
        "digits",
        tiny,
        sampler="evolution(population=4, tournament=2)",
        budget=Budget(max_macs=400_000),
        trials=5,
        recipe=brief_recipe(tmp_path_factory.mktemp("recipe")),
        runs=tmp_path_factory.mktemp("runs"),
        listener=told.append,
        **SHORT,
    )
    return made, told


def test_a_search_ends_with_a_trained_model_within_the_budget(run):
    made, _ = run
    assert made.summary["macs"] <= 400_000
    assert made.summary["search"]["trials"] == 5 and made.summary["search"]["failed"] == 0
    assert len(fv.load(made.folder / "best").predict(fv_digits()[0])) > 0
    card = json.loads((made.folder / "best" / "config.json").read_text())
    assert card["architecture"]["family"] == "resnet"
    assert (made.folder / "report.html").stat().st_size > 10_000


def fv_digits():
    from foveate.data.index import open_data

    return open_data("digits").splits["test"].pixels


def test_the_folder_says_what_was_found_and_what_it_cost(run):
    made, told = run
    folder = made.folder.parent
    results = json.loads((folder / "results.json").read_text())
    assert len(results["trials"]) == 5 and results["choices"]["act"] in ("relu", "silu")
    trained = [t for t in results["trials"] if t["val_accuracy"] is not None]
    over = [t for t in results["trials"] if not t["fits"]]
    assert all(t["macs"] <= 400_000 for t in trained) and all(t["score"] < 0 for t in over)
    best = max(trained, key=lambda t: t["val_accuracy"])
    assert results["winner"] == best["net"]
    assert "5 nets in" in (folder / "table.md").read_text()
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    lines = (folder / "winner.txt").read_text().splitlines()
    assert any(line.startswith("act ") for line in lines) and float(lines[-1].split()[0]) == round(
        best["macs"] / 1e6, 2
    )
    page = (folder / "report.html").read_text()
    assert (folder / "winner.png").read_bytes().startswith(b"\x89PNG")
    assert (
        page.count("data:image/png;base64,") == 2
        and "5 nets in" in page
        and re.search('<th[^>]* scope="row">fc</th>', page)
    )
    assert sum(isinstance(event, StageEvent) and event.text.startswith("trial ") for event in told) == 5


def test_a_finished_search_goes_on_to_the_same_end(run, tiny):
    made, _ = run
    again = resume_search(made.folder.parent, space=tiny)
    assert again.summary["test_accuracy"] == made.summary["test_accuracy"]


def test_a_search_that_is_killed_goes_on_with_the_same_trials(tiny, tmp_path):
    options = [
        "digits",
        "--space",
        tiny,
        "--sampler",
        "predictor",
        "--trials",
        "7",
        "--epochs",
        "1",
        "--pictures",
        "256",
    ]
    options += ["--recipe", brief_recipe(tmp_path), "--front", "1", "--threads", "1", "--quiet", "--json"]

    def start(name, *words):
        (tmp_path / name).mkdir()
        return forked.start_command(["search", *words], tmp_path / name)

    def end(name, process):
        process.join()
        assert process.exitcode == 0, (tmp_path / name / "err.txt").read_text()

    whole = start("whole", *options, "--runs", str(tmp_path / "whole"))
    parts = start("parts", *options, "--runs", str(tmp_path / "parts"))
    folder = tmp_path / "parts" / "search-digits-1"
    while finished(folder) < 3 and parts.is_alive():
        time.sleep(0.02)
    parts.kill()
    parts.join()
    assert parts.exitcode == -signal.SIGKILL
    end("again", start("again", "--resume", str(folder), "--space", tiny, "--json"))
    assert json.loads((tmp_path / "again" / "out.txt").read_text())["search"]["trials"] == 7
    end("whole", whole)

    def rows(place):
        trials = json.loads((place / "results.json").read_text())["trials"]
        return [(t["trial"], t["net"], t["val_accuracy"]) for t in trials]

    assert rows(folder) == rows(tmp_path / "whole" / "search-digits-1")


def finished(folder):
    """Trials of a study that have ended, read by another connection."""
    import sqlite3

    if not (folder / "study.db").exists():
        return 0
    try:
        with sqlite3.connect(folder / "study.db", timeout=5) as base:
            return base.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_two_workers_share_a_search(tiny, tmp_path):
    told = []
    done = search_only(tiny, tmp_path, workers=2, trials=6, listener=told.append)
    assert 6 <= len(done) <= 8
    assert len({one.net for one in done}) == len(done) and all(one.values for one in done)
    assert sum(event.text.startswith("trial ") for event in told) >= 6  # the parent tells what its workers found


def test_a_budget_that_no_net_fits_is_refused_with_the_smallest_before_the_first_trial(tiny, tmp_path):
    with pytest.raises(fv.BudgetError, match=r"the smallest of 12 nets has 53\.2 k multiply-adds"):
        search("digits", tiny, sampler="random", budget=Budget(max_macs=1000), trials=8, runs=tmp_path, **SHORT)
    assert not list(tmp_path.glob("search-*"))


@pytest.mark.parametrize(
    ("design", "reason"),
    [
        ({"space": "mnasnett"}, "did you mean mnasnet"),
        ({"space": "none.py"}, "no such file"),
        ({"sampler": "tpee"}, "did you mean tpe"),
        ({"objectives": ("accuracy", "speed")}, '"speed" is none of'),
        ({"objectives": ("macs", "accuracy")}, "the first one is accuracy"),
        ({"sampler": "controller", "objectives": ("accuracy", "macs")}, "knows one objective"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_written(design, reason, tiny, tmp_path):
    space = design.pop("space", tiny)
    with pytest.raises(fv.ConfigError, match=reason):
        search("digits", space, runs=tmp_path / "runs", **design)
    assert not (tmp_path / "runs").exists()


def test_the_zoo_under_the_same_budget_stands_beside_the_winner(tiny, tmp_path):
    recipe = brief_recipe(tmp_path)
    made = search("digits", tiny, sampler="random", trials=3, recipe=recipe, runs=tmp_path / "runs", **SHORT)
    folder = made.folder.parent
    results = json.loads((folder / "results.json").read_text())
    assert results["zoo"] == json.loads((folder / "zoo.json").read_text()) and results["zoo"]
    assert all(row["fits"] and 0 <= row["val_accuracy"] <= 1 and row["resolution"] == 8 for row in results["zoo"])
    assert "The winner is " in (folder / "table.md").read_text()


def test_the_verdict_says_what_the_interval_allows():
    rows = [{"model": "a", "val_accuracy": 0.5, "latency_ms": 1.0}, {"model": "b", "val_accuracy": None}]
    said = [verdict(rows, Found((), (v,), {"val_accuracy": v}, 0), 200)[-1] for v in (0.9, 0.52, 0.1)]
    assert [text.split(" the best")[0] for text in said] == [
        "The winner is above",
        "The winner is within the standard error of",
        "The winner is below",
    ]
    assert "No network of the zoo" in verdict(rows[1:], Found((), (0.5,), {}, 0), 200)[0]
