"""foveate compress from the command line: a trained digit classifier at half its multiply-adds, and what goes wrong."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from compressible import RECIPE, TINY, P, call, step_row

from foveate.cli import main
from foveate.compress.schedule import floor
from foveate.config import from_dict, parse_json, replace
from foveate.cost.count import cost
from foveate.data.index import open_data
from foveate.data.load import evaluation_pictures
from foveate.deploy.runtime import open_session
from foveate.errors import BudgetError, ConfigError
from foveate.events import silent
from foveate.files import write_folder
from foveate.runs.plan import Plan
from foveate.runs.time_budget import TimeBudget
from foveate.train.artefact import ModelCard, load_model, model_files, read_card
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.recipe import Loss, Mix, Optim
from foveate.train.signals import Stop
from foveate.workflows.compress.costs import channels_at_once
from foveate.workflows.compress.goal import Goal, make_goal, read_goal, settle_multiple
from foveate.workflows.compress.run import compress, open_run
from foveate.workflows.compress.step import make_step, step_rows
from foveate.workflows.compress.targets import choose, next_goal, slower
from foveate.workflows.compress.tuning import tuning_recipe
from foveate.zoo import build, variant

KEYS = {"method", "test_accuracy", "test_interval", "macs", "params", "latency_ms", "size_bytes", "run", "chosen"}


OPTIONS = ("--macs", "0.5", "--multiple", "1", "--epochs", "1", "--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """The lines of --json of a run that auto led, and its folder."""
    import contextlib
    import io

    runs, out = tmp_path_factory.mktemp("runs"), io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["compress", str(source), "digits", *OPTIONS, "--steps", "1", "--json", "--runs", str(runs)]) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()], runs / "digits-1"


def test_a_step_a_line_and_half_of_the_multiply_adds(run, source):
    rows, folder = run
    assert all(row.keys() >= KEYS for row in rows)
    first, last = rows[0], rows[-1]
    assert (first["method"], first["step"], last["chosen"]) == ("original", 0, True)
    assert 0.45 * first["macs"] < last["macs"] <= 0.5 * first["macs"]
    assert last["params"] < first["params"]
    assert last["size_bytes"] < first["size_bytes"]
    assert last["test_interval"][0] < last["test_accuracy"] < last["test_interval"][1]
    assert last["test_accuracy"] > 0.6
    _, card = load_model(folder / "best")
    assert card.architecture.num_classes == 10
    assert card.provenance["compressed_from"] == str(source / "best")


def test_auto_tries_no_further_criterion_when_its_time_is_over(source, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.workflows.compress.methods.PICK_SHARE", 0.0)
    told = []
    made = compress(
        source, "digits", macs=0.5, steps=1, epochs=1, time_s=60.0, threads=1, runs=tmp_path,
        listener=lambda event: told.append(getattr(event, "text", "")),
    )  # fmt: skip
    assert made.summary["method"] == "taylor"
    assert [text.split(":")[0].strip() for text in told if "left out" in text] == [
        "norm", "bn_scale", "taylor2", "redundancy",
    ]  # fmt: skip


def test_the_accuracy_of_a_row_is_that_of_its_folder(run):
    rows, _ = run
    test = evaluation_pictures(open_data("digits").splits["test"], P).load()
    for row in rows:
        model, _ = load_model(row["run"])
        assert accuracy(predict_logits(model, test, P), labels_of(test)) == row["test_accuracy"]


FRESH = """
import sys, json, torch
from foveate.train.artefact import load_model
model, _ = load_model(sys.argv[1])
x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    print(json.dumps(model(x).tolist()))
"""


def test_a_fresh_process_gives_the_same_outputs(run):
    folder = run[1] / "best"
    out = subprocess.run([sys.executable, "-c", FRESH, str(folder)], capture_output=True, check=True, timeout=120)
    model, _ = load_model(folder)
    with torch.no_grad():
        mine = model(torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(np.array(json.loads(out.stdout)), mine.numpy(), atol=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    session = open_session((folder / "model.onnx").read_bytes(), 1)
    x = (torch.from_numpy(picture).permute(0, 3, 1, 2) / 255 - torch.tensor(P.mean).view(3, 1, 1)) / torch.tensor(
        P.std
    ).view(3, 1, 1)
    with torch.no_grad():
        np.testing.assert_allclose(session.run(picture), model(x).numpy(), atol=1e-4)


def test_the_report_shows_the_steps(run):
    _, folder = run
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert "Step by step" in page
    assert "Test accuracy against multiply-adds" in page
    assert "| 0 | original |" in text
    result = parse_json((folder / "result.json").read_bytes(), "result.json")
    assert [c["step"] for c in result["candidates"]] == [0, 1]


POINTS = [
    "step.before:3",
    *(
        pytest.param(f"step.{at}:{n}", marks=pytest.mark.thorough)
        for at in ("before", "after")
        for n in (1, 2, 3)
        if (at, n) != ("before", 3)
    ),
]


@pytest.mark.parametrize("point", POINTS)  # step.before:3: the second step is trained, not yet saved
def test_a_killed_run_goes_on_from_the_last_finished_step(source, tmp_path, capsys, point):
    command = [sys.executable, "-m", "foveate", "compress", str(source), "digits", *OPTIONS]
    command += ["--method", "taylor(form='additive', pictures=64)", "--steps", "2", "--runs", str(tmp_path)]
    environment = {**os.environ, "FOVEATE_CRASHPOINT": point}
    assert subprocess.run(command, env=environment, timeout=300, capture_output=True).returncode == -9
    folder = tmp_path / "digits-1"
    before = {row["run"]: (Path(row["run"]) / "model.safetensors").stat().st_mtime_ns for row in step_rows(folder)}
    assert len(before) == int(point[-1]) - ("before" in point)
    code, out, err = call(capsys, "compress", "--resume", folder, "--json", "--quiet")
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert all((Path(path) / "model.safetensors").stat().st_mtime_ns == time for path, time in before.items())
    weights = (folder / "steps" / "02-taylor" / "model.safetensors").read_bytes()
    assert (folder / "best" / "model.safetensors").read_bytes() == weights
    shutil.rmtree(folder / "steps" / "02-taylor")  # once more: the same step gives the same weights
    goal, plan = read_goal(folder), from_dict(Plan, parse_json((folder / "recipe.json").read_bytes(), "recipe.json"))
    run = open_run(
        folder, goal, plan, open_data("digits", seed=goal.split_seed), silent, Stop(), TimeBudget.start(math.inf)
    )
    make_step(run, 2, goal.method, next_goal(run, step_rows(folder)))
    assert (folder / "steps" / "02-taylor" / "model.safetensors").read_bytes() == weights


def test_a_size_that_is_asked_for_is_that_of_the_final_file(source, tmp_path, capsys):
    code, out, err = call(
        capsys, "compress", source, "digits", "--max-size", "27kB", "--steps", "1", "--method", "norm", *OPTIONS[2:],
        "--json", "--runs", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    size = (tmp_path / "digits-1" / "best" / "model.onnx").stat().st_size
    assert size <= 27_000
    assert last["size_bytes"] == pytest.approx(size, abs=4096)  # with what is known of its answers, as room allows


def test_a_target_below_the_floor_is_exit_4_and_leaves_nothing(source, tmp_path, capsys):
    code, _, err = call(capsys, "compress", source, "digits", "--macs", "0.001", "--runs", tmp_path / "runs", "--quiet")
    assert code == 4
    assert "below what tiny can shrink to" in err
    assert "one unit left in every layer" in err
    assert not (tmp_path / "runs").exists()


def test_bad_inputs_are_one_line_each(source, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["ResNetForImageClassification"]}')
    renamed = tmp_path / "renamed"
    model, card = load_model(source / "best")
    write_folder(renamed, model_files(replace_classes(card), model.state_dict()))
    for arguments, code, text in (
        ([source], 2, "DATA is missing"),
        ([source, "digits"], 2, "0 targets given"),
        ([source, "digits", "--macs", "0.5", "--params", "0.5"], 2, "2 targets given"),
        ([source, "digits", "--macs", "half"], 2, "--macs"),
        ([source, "digits", "--macs", "0.5", "--method", "tailor"], 2, "did you mean taylor"),
        ([source, "digits", "--macs", "0.5", "--method", "taylor(form='x')"], 2, "taylor form"),
        ([source, "digits", "--max-latency", "3"], 2, "unit is missing"),
        ([tmp_path / "other", "digits", "--macs", "0.5"], 2, "not a model folder of foveate"),
        ([tmp_path / "none", "digits", "--macs", "0.5"], 2, "no such folder"),
        ([renamed, "digits", "--macs", "0.5"], 3, "its classes are not those of the model"),
        (["--resume", tmp_path], 2, "no compress.json"),
    ):
        found, out, err = call(capsys, "compress", *arguments, "--quiet", "--runs", tmp_path / "runs")
        assert (found, out, err.count("\n")) == (code, "", 1), err
        assert text in err
    with pytest.raises(ConfigError, match="takes a model folder"):
        compress(build(TINY), "digits", macs=0.5)
    assert not (tmp_path / "runs").exists()


def replace_classes(card):
    return ModelCard(card.architecture, tuple("abcdefghij"), card.preprocess, card.provenance)


def test_check_proves_that_removed_is_masked(capsys):
    code, out, _ = call(capsys, "compress", "--check", "resnet20_cifar", "--json")
    found = json.loads(out)
    assert code == 0
    assert 0 <= found["max_difference"] <= 1e-12
    code, out, _ = call(capsys, "compress", "--check", "resnet20_cifar")
    assert "removed - masked" in out
    assert call(capsys, "compress", "--check", "resnet20")[0] == 2


ROWS = [step_row(0, 0.95, 10e6), step_row(1, 0.95, 7e6), step_row(2, 0.94, 5e6), step_row(3, 0.90, 4.9e6)]


@pytest.mark.parametrize(
    ("target", "drop", "step"), [(5e6, None, 2), (5e6, 1.0, 2), (None, 1.0, 2), (None, 0.0, 1), (7e6, None, 1)]
)
def test_the_best_that_fits_is_chosen(target, drop, step):
    assert choose(Goal("m", "macs", target, max_drop=drop), ROWS) == step


def test_widths_follow_the_processor_where_the_network_is_wide_enough():
    block, lite, thin = channels_at_once(), variant("efficientnet_lite0"), variant("resnet20_cifar")
    assert block in (8, 16)

    def macs(config):
        return float(cost(config, resolution=32).macs)

    assert settle_multiple(lite, "latency_ms", macs, 1.0) == block  # nothing is measured
    assert settle_multiple(lite, "size_bytes", macs, 1.0) == 1
    assert settle_multiple(lite, "macs", macs, 0.6 * macs(lite)) == block
    assert settle_multiple(lite, "macs", macs, math.inf) == block  # --max-drop alone
    narrow = settle_multiple(thin, "macs", macs, 0.3 * macs(thin))  # 16, 32 and 64 channels
    assert 1 <= narrow < block and macs(floor(thin, narrow)) <= 0.15 * macs(thin)
    assert make_goal({"macs": 0.5}, None, "auto", 0, 3).multiple == 0  # still open
    assert make_goal({"latency_ms": 3.0}, None, "auto", 0, 3, 4).multiple == 4


def test_a_step_that_is_slower_than_the_original_is_chosen_only_where_that_is_allowed():
    rows = [dict(row, latency_ms=ms) for row, ms in zip(ROWS, (4.0, 4.05, 6.6, 3.9), strict=True)]
    assert [slower(rows, row) for row in rows] == [False, False, True, False]
    assert choose(Goal("m", "macs", 5e6), rows) == 3  # step 2 is more accurate
    assert choose(Goal("m", "macs", 5e6, allow_slower=True), rows) == 2
    assert choose(Goal("m", "macs", None, max_drop=1.0), rows) == 1
    with pytest.raises(BudgetError, match=r"5 M multiply-adds is reached by step 2 .*1\.65 times .*--allow-slower"):
        choose(Goal("m", "macs", 5e6), rows[:3])


def test_where_nothing_fits_the_nearest_is_named():
    with pytest.raises(BudgetError, match=r"costs 1 points .* smallest within it is step 1 \(7 M multiply-adds\)"):
        choose(Goal("m", "macs", 5e6, max_drop=0.5), ROWS)
    with pytest.raises(BudgetError, match=r"3 M multiply-adds was not reached: step 3 measures 4\.9 M"):
        choose(Goal("m", "macs", 3e6), ROWS)
    with pytest.raises(ConfigError, match="0 targets"):
        make_goal({"macs": None}, None, "auto", 0, 3, 1)


def test_the_recipe_of_fine_tuning_keeps_input_and_optimiser_and_nothing_that_starts():
    base = replace(RECIPE, mix=Mix(mixup=0.2), ema=0.9, freeze=0.5, init=("zero_gamma",), loss=Loss(smoothing=0.1))
    found = tuning_recipe(replace(base, optim=Optim("schedule_free_sgd", lr=0.2, sam=0.1)), 5, "runs/a/best", 3)
    assert (found.epochs, found.seed, found.optim.name, found.optim.sam) == (5, 3, "sgd", 0)
    assert found.optim.lr < 0.2
    assert (found.mix, found.ema, found.freeze, found.init) == (Mix(), 0, 0, ())
    assert (found.augment, found.batch, found.loss.teacher) == (base.augment, 64, "runs/a/best")


def test_the_card_of_a_step_says_what_it_was_made_from(run):
    rows, _ = run
    card, _ = read_card(rows[-1]["run"])
    assert card.provenance["step"] == 1
    assert card.provenance["method"] == rows[-1]["method"]
    assert [m.split for m in card.metrics] == ["val"]


def test_a_step_has_its_part_of_the_time_that_is_left(monkeypatch):
    import types

    from foveate.workflows.compress import step

    monkeypatch.setattr(step, "step_rows", lambda _: [{"seconds": 2.0}])
    now = [0.0]
    run = types.SimpleNamespace(
        folder=None, goal=types.SimpleNamespace(steps=4), time=TimeBudget(100.0, 0.0, clock=lambda: now[0])
    )
    assert step.seconds_for(run, 1) == (100 - 20) / 4 - 2
    now[0] = 60.0
    assert step.seconds_for(run, 4) == 40 - 20 - 2
    now[0] = 99.0
    assert step.seconds_for(run, 4) == 0
    run.time = TimeBudget(math.inf, 0.0)
    assert step.seconds_for(run, 1) == math.inf
