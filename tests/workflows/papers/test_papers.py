"""Reproduced tables end to end: power first, trainings through ablate, verdicts, going on, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foveate.cli import main
from foveate.workflows.papers.run import NOTE, reproduce, resume_reproduction
from foveate.workflows.papers.table import Arm, Contrast, Published, Table, Trainings, versus
from foveate.workflows.papers.tables import TABLES
from foveate.workflows.papers.verdict import FAILS, HOLDS, OPEN
from foveate.zoo.families.vgg import Stage, VGGConfig

READ = Published(-0.5, "a setting", "a source", "read", "nats")
NET = VGGConfig((Stage((4,)), Stage((8,))), grid=1, hidden=(), dropout=0.0, num_classes=10, resolution=16)
TINY = Table(
    name="tiny",
    seed_page="000",
    paper="A paper",
    arxiv="1234.56789",
    claim="A rate above 0 learns.",
    scale="not at all",
    contrasts=(
        versus("some", "none", READ, "less"),
        Contrast("twice", READ, ("some", "some"), ("none", "none"), "less", main=False),
    ),
    study=Trainings(
        NET,
        (Arm("none", ("optim.lr=0.000001",)), Arm("some", ("optim.lr=0.1", "schedule.warmup=@0.1"))),
        epochs=3,
        sd=0.1,
        seeds=3,
        measure="train_loss",
        changes=("batch=16", "schedule.warmup=0", "precision=fp32", "threads=1"),
        own_batch=True,
    ),
    minutes=1.0,
)


@pytest.fixture(autouse=True)
def with_tiny(monkeypatch):
    monkeypatch.setitem(TABLES, "tiny", TINY)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Two classes of 60 pictures of 16 px, that a net of two layers tells apart."""
    folder, random = tmp_path_factory.mktemp("made") / "two", np.random.default_rng(0)
    for label, channel in (("blue", 2), ("red", 0)):
        (folder / label).mkdir(parents=True)
        for i in range(60):
            pixels = random.integers(0, 120, (16, 16, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i:02d}.png")
    return folder


def test_a_table_says_what_it_can_tell_before_anything_and_what_it_found_at_the_end(colours, tmp_path, capfd):
    told = []
    run = reproduce("tiny", colours, epochs=3, pictures=90, runs=tmp_path, listener=lambda e: told.append(e))
    assert told[0].text.startswith("power: 3 seeds, deviation of a difference")
    found = run.summary
    row, twice = found["rows"]
    assert row["published"] == {"row": "some - none", **{k: getattr(READ, k) for k in READ.__dataclass_fields__}}
    assert found["verdict"] == row["verdict"] == HOLDS
    assert row["interval"][1] < 0
    assert row["n"] == 3
    assert [2 * v for v in row["values"]] == pytest.approx(twice["values"])
    # by hand, from the trainings' own files
    loss = {}
    for path in sorted(run.folder.glob("trainings-1/trials/*/*/metrics.jsonl")):
        last = json.loads(path.read_text().splitlines()[-1])
        loss[path.parts[-3][3:], int(path.parts[-2][5:])] = last["loss"]
    assert row["values"] == pytest.approx([loss["some", s] - loss["base", s] for s in range(3)])
    paths = run.folder.glob("trainings-1/trials/*/*/recipe.json")
    recipes = [json.loads(path.read_text())["recipe"] for path in paths]
    assert {r["schedule"]["warmup"] for r in recipes} == {0.0, 0.3}
    page = (run.folder / "report.html").read_text("utf-8")
    assert "A rate above 0 learns." in page and ">holds<" in page
    assert json.loads((run.folder / "results.json").read_text())["rows"] == found["rows"]
    listed = (run.folder / "pictures.csv").read_text().splitlines()
    assert sum(",train" in line for line in listed) == 90


def test_what_is_left_of_a_table_is_done_later_to_the_same_numbers(colours, tmp_path):
    whole = reproduce("tiny", colours, epochs=1, seeds=2, runs=tmp_path)
    last = sorted(whole.folder.glob("trainings-1/trials/*/seed-1"))[-1]
    before = [row["values"] for row in whole.summary["rows"]]
    for path in last.rglob("*"):
        if path.is_file():
            path.unlink()
    (whole.folder / "results.json").unlink()
    again = resume_reproduction(whole.folder)
    assert [row["values"] for row in again.summary["rows"]] == before
    assert (whole.folder / "results.json").exists()


def test_the_command_prints_one_object_and_refuses_what_it_can_not_do(colours, tmp_path, capfd):
    where = ["--runs", str(tmp_path), "-q"]
    assert main(["reproduce", "tiny", "--data", str(colours), "--epochs", "1", "--seeds", "2", *where, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {"here", "interval", "published"} <= set(found["rows"][0])
    assert found["verdict"] in (HOLDS, OPEN, FAILS)
    assert f"foveate reproduce tiny --data {colours} --budget full" in found["full_command"]
    folder = found["folder"]
    for words, said in (
        (["tinny"], 'unknown table "tinny": did you mean tiny'),
        ([], "TABLE is missing"),
        (["tiny", "--pictures", "9"], "--pictures 9: of built-in digits all are taken"),
        (["tiny", "--budget", "soon"], "--budget"),
        (["tiny", "--retry"], "--retry goes with --resume"),
        (["--resume", str(colours)], f"no {NOTE} here"),
        (["tiny", "--resume", folder, "--seeds", "4"], "asked for 4"),
    ):
        assert main(["reproduce", *words, "--runs", str(tmp_path)]) != 0
        error = capfd.readouterr().err.strip().splitlines()
        assert len(error) == 1 and said in error[0], (words, error)


def test_a_budget_of_seconds_is_kept_and_told(tmp_path, capfd):
    assert main(["reproduce", "tiny", "--budget", "12s", "--seeds", "2", "--runs", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert lines[0].startswith("power: ")
    assert "seeds; about" in lines[1]
    assert "| some - none |" in out and out.splitlines()[0].startswith("# tiny: ")
    assert "At full size: foveate reproduce tiny --data CIFAR10 --budget full --seeds 3" in out


@pytest.mark.parametrize("name", ["mgic"])
def test_a_table_of_counts_needs_no_pictures(name, tmp_path):
    run = reproduce(name, budget_s=60.0, runs=tmp_path)
    assert run.summary["verdict"] == HOLDS
    assert run.summary["rows"][0]["interval"] == [run.summary["rows"][0]["here"]] * 2
    assert (Path(run.folder) / "report.html").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_runs_on_digits(name, tmp_path):
    run = reproduce(name, "digits", budget_s=120.0, seeds=2, epochs=1, runs=tmp_path)
    assert run.summary["verdict"] in (HOLDS, OPEN, FAILS)
    assert any(row["values"] for row in run.summary["rows"])
