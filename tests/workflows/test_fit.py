"""fit and train from data to model folder, on the built-in digits and on made-up photographs."""

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import foveate as fv
from foveate.cli import main
from foveate.config import to_json
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess, at_resolution, with_change
from foveate.events import CandidateEvent, DataEvent, EpochEvent, StageEvent, StepEvent
from foveate.runs.evaluate import evaluate_model
from foveate.runs.finish import measure_last
from foveate.runs.plan import Budget
from foveate.selection.candidates import HEADROOM, list_asked, look, select_affordable, thin
from foveate.selection.halving import Entry, choose_entrants, rank, rounds_for
from foveate.selection.shortlist import cost_of
from foveate.workflows.compress.run import compress
from foveate.zoo import FAMILIES

BASE = fv.variant("resnet20_cifar")
SMALL = fv.replace(BASE, stages=tuple(fv.replace(s, mid=s.mid[:1]) for s in BASE.stages))
WIDE = fv.replace(SMALL, stages=tuple(fv.replace(s, width=3 * s.width, mid=(3 * s.width,)) for s in SMALL.stages))
NETS = {"resnet8_small": SMALL, "preresnet8_small": fv.replace(SMALL, order="pre"), "resnet8_small_wide": WIDE}
KEYS = ("run", "model", "test_accuracy", "test_interval", "latency_ms", "size_bytes", "macs", "params")


@contextlib.contextmanager
def zoo_with_small_nets():
    """Nets of three blocks stand in the zoo: they train and export in a third of the time of the smallest there."""
    with pytest.MonkeyPatch.context() as patch:
        for name, config in NETS.items():
            patch.setitem(FAMILIES["resnet"].variants, name, config)
        yield


@pytest.fixture
def small_nets():
    with zoo_with_small_nets():
        yield


def small_or(name):
    """A small net in the suite, one of the zoo with --all."""
    return ["resnet8_small", pytest.param(name, marks=pytest.mark.thorough)]


@pytest.fixture(
    scope="module",
    params=[
        ("*resnet8_small*", 5_000_000),
        pytest.param(("*resnet20_cifar", 15_000_000), marks=pytest.mark.thorough),
    ],
    ids=["small", "zoo"],
)
def run(request, tmp_path_factory):
    """One quick fit of digits with two candidates, and what it told its listener."""
    told, (models, max_macs) = [], request.param
    options = {"time_s": 1.0, "max_macs": max_macs, "threads": 1, "listener": told.append}
    with zoo_with_small_nets():
        made = fv.fit("digits", models=models, runs=tmp_path_factory.mktemp("runs"), **options)
    return made, told


def test_fit_leaves_a_model_folder_a_report_and_a_summary(run):
    made, _ = run
    names = {p.name for p in (made.folder / "best").iterdir()}
    assert names == {"config.json", "model.safetensors", "trust.safetensors", "model.onnx", "README.md"}
    assert all(key in made.summary for key in KEYS)
    assert json.loads(json.dumps(made.summary, allow_nan=False)) == json.loads(json.dumps(dict(made.summary)))
    low, high = made.summary["test_interval"]
    assert low <= made.summary["test_accuracy"] <= high
    assert (made.folder / "report.html").stat().st_size > 10_000
    assert not list(made.folder.rglob(".*"))


def test_the_best_model_predicts_and_evaluates_to_the_number_that_fit_printed(run):
    made, _ = run
    again = evaluate_model(made.folder / "best", "digits")
    assert again["accuracy"] == made.summary["test_accuracy"]
    digits = open_data("digits").splits["test"]
    answer = fv.load(made.folder / "best").predict(digits.pixels[0], top=3)
    assert len(answer) == 3 and 0 <= answer[0][1] <= 1


def test_the_onnx_file_and_the_network_agree_on_the_whole_test_split(run):
    from foveate.deploy.runtime import open_session

    made, _ = run
    digits = open_data("digits").splits["test"]
    session = open_session(made.folder / "best" / "model.onnx", 1)
    ours = fv.load(made.folder / "best").predict_logits(list(digits.pixels))
    theirs = session.run(np.ascontiguousarray(digits.pixels))
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))


def test_the_listener_hears_data_candidates_steps_and_epochs(run):
    kinds = {type(event) for event in run[1]}
    assert {DataEvent, StageEvent, CandidateEvent, StepEvent, EpochEvent} <= kinds


@pytest.mark.parametrize("model", small_or("resnet20_cifar"))
def test_equal_seeds_give_equal_weights(model, small_nets, tmp_path):
    runs = [
        fv.train("digits", model, recipe="small_pictures", overrides=QUICK, runs=tmp_path / str(i)) for i in range(2)
    ]
    first, second = ((r.folder / "best" / "model.safetensors").read_bytes() for r in runs)
    assert first == second
    assert runs[0].summary["test_accuracy"] == runs[1].summary["test_accuracy"]


QUICK = ("epochs=1", "preprocess.resolution=8", "batch=128", "precision=fp32", "layout=nchw", "threads=1")


def test_a_budget_out_of_reach_names_the_nearest_and_leaves_nothing(tmp_path):
    with pytest.raises(fv.BudgetError, match="nearest is resnet20_cifar at 16 px") as caught:
        fv.fit("digits", models="resnet20_cifar", max_size_bytes=1000, runs=tmp_path / "runs")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("val", 8), ("test", 8)):
        for i in range(n):
            path = tmp_path / "photos" / split / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 30, (90, 120, 3), dtype=np.uint8)
            pixels[:, :, (0, 2)[i % 2]] += 200  # red cats, blue dogs
            Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.mark.parametrize("source", ["a run", pytest.param("lite", marks=pytest.mark.thorough)])
def test_published_weights_get_a_linear_classifier_and_are_fine_tuned(source, run, photos, monkeypatch, tmp_path):
    best = str(run[0].folder / "best")
    model, weights = (best, best) if source == "a run" else ("efficientnet_lite0", "lite")
    made = fv.train(
        photos,
        model,
        recipe="finetune",
        weights=weights,
        overrides=["epochs=1", "batch=8", "preprocess.resolution=64", "precision=fp32", "layout=nhwc", "threads=1"],
        runs=tmp_path / "runs",
    )
    assert made.summary["test_accuracy"] == 1.0  # red against blue
    card = json.loads((made.folder / "best" / "config.json").read_text())
    assert card["provenance"]["blend"] in (0.5, 0.7, 0.85, 1.0)
    before = (made.folder / "best" / "model.safetensors").read_bytes()
    if source == "a run":  # the end was there once
        monkeypatch.setattr(importlib.import_module("foveate.runs.complete"), "finish", lambda *_: made)
    fv.train(photos, model, resume=made.folder)  # finished: nothing is blended a second time
    assert (made.folder / "best" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("model", small_or("resnet20_cifar"))
def test_a_run_that_is_killed_goes_on_through_the_command_line(model, capsys, tmp_path):
    if model in NETS:  # another process has it from a file
        (tmp_path / "net.json").write_text(to_json(NETS[model]))
        model = str(tmp_path / "net.json")
    command = [sys.executable, "-c", "from foveate.cli import main; raise SystemExit(main())", "train"]
    options = ["digits", "--model", model, "--recipe", "small_pictures", "preprocess.resolution=8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options += ["--epochs", "3", "--runs", str(tmp_path), "precision=fp32", "layout=nchw", "threads=1"]
    first = subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "digits-1" / "state"
    deadline = time.monotonic() + 120
    while not list(state.glob("step-000000[1-9]*")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 75
    assert "--resume" in said.splitlines()[-1]
    assert main(["train", "--resume", str(tmp_path / "digits-1"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["epochs"] == 3
    rows = (tmp_path / "digits-1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3]


def measured(ms, size=1, macs=1, weights=None, model="resnet20_cifar", memory=None):
    from foveate.selection.candidates import Candidate, Measured

    class Fake:
        median_ms = p10_ms = p90_ms = ms

    config = fv.variant("resnet20_cifar")
    return Measured(Candidate(model, config, Preprocess(), weights), Fake(), size, macs, 1, memory)


def test_every_limit_of_a_budget_holds_by_itself():
    field = [measured(1.0, 10, 100), measured(2.0, 5, 50)]
    assert select_affordable(field, Budget(max_latency_ms=1.5)) == field[:1]
    assert select_affordable(field, Budget(max_latency_ms=1.0 / HEADROOM)) == field[:1]
    assert select_affordable(field, Budget(max_size_bytes=7)) == field[1:]
    assert select_affordable(field, Budget(max_macs=60, max_latency_ms=2.5)) == field[1:]
    with pytest.raises(fv.BudgetError):
        select_affordable(field, Budget(max_latency_ms=1.5, max_size_bytes=7))
    with pytest.raises(fv.BudgetError, match="10 % of a latency budget are kept free"):
        select_affordable(field, Budget(max_latency_ms=1.05))
    heavy = [measured(1.0, memory=9_000_000), measured(2.0, memory=3_000_000)]
    assert select_affordable(heavy, Budget(max_memory_bytes=5_000_000)) == heavy[1:]
    with pytest.raises(fv.BudgetError, match=r"3\.0 MB in memory"):
        select_affordable(heavy, Budget(max_memory_bytes=1_000_000))


def test_a_wide_pattern_leaves_out_what_can_not_take_the_pictures():
    field = list_asked(open_data("digits"), None, "*")
    names = {c.model for c in field}
    assert "resnet18" in names and "inception_v3" not in names  # 75 pixels or more
    with pytest.raises(fv.ConfigError, match="16 pixels"):
        list_asked(open_data("digits"), None, "inception_v?")
    costs = list(range(100))
    kept = thin(costs, 48)
    assert len(kept) == 48 and kept[0] == costs[0] and kept[-1] == costs[-1]


def test_short_races_take_fewer_and_quicker_candidates():
    field = [measured(ms) for ms in (8.0, 1.0, 4.0, 2.0)]
    assert [m.latency.median_ms for m in choose_entrants(field, 1000, 10_000.0, 1.0)] == [1.0, 2.0, 4.0, 8.0]
    assert [m.latency.median_ms for m in choose_entrants(field, 1000, 70.0, 1.0)] == [1.0, 2.0]
    assert [m.latency.median_ms for m in choose_entrants(field, 1000, 1.0, 1.0)] == [1.0]


def test_fine_tuning_races_the_three_largest_that_have_the_time():
    times = (1.0, 2.0, 4.0, 8.0, 80.0)
    field = [measured(ms, macs=round(100 * ms), weights="lite", model=f"net{ms}") for ms in times]
    assert [m.latency.median_ms for m in choose_entrants(field, 1000, 200.0, 0.25)] == [2.0, 4.0, 8.0]
    assert [m.latency.median_ms for m in choose_entrants(field, 1000, 1.0, 0.25)] == [1.0]


def test_fine_tuning_takes_the_largest_resolution_that_leaves_epochs_enough():
    field = [measured(ms, macs=round(100 * ms), weights="lite", model="net") for ms in (1.0, 2.0, 4.0)]
    for seconds, chosen in ((200.0, 4.0), (100.0, 2.0), (20.0, 1.0), (1.0, 1.0)):  # 11, 11, 4.5, 0.2 epochs
        assert [m.latency.median_ms for m in choose_entrants(field, 1000, seconds, 0.25)] == [chosen]


def test_when_time_is_short_no_further_candidate_is_measured_once_one_fits(monkeypatch):
    from foveate.selection import candidates

    monkeypatch.setattr(candidates, "measure_candidate", lambda c, counts, *_: measured(1.0, macs=counts.macs))
    told, field = [], list_asked(open_data("digits"), None, "*resnet20_cifar")
    for budget, number in ((Budget(), 1), (Budget(max_latency_ms=0.5), len(field))):
        found = candidates.measure_all(field, budget, 1, 0.0, told.append)
        assert len(found) == number
    assert any("are not measured" in event.text for event in told if isinstance(event, StageEvent))


@pytest.mark.parametrize("models", ["*resnet8_small", pytest.param("*resnet20_cifar", marks=pytest.mark.thorough)])
def test_a_training_shorter_than_the_race_goes_on_from_there(models, small_nets, monkeypatch, tmp_path):
    module = importlib.import_module("foveate.workflows.fit")
    monkeypatch.setattr(module, "limit_epochs", lambda recipe, *_, **__: fv.replace(recipe, epochs=1))
    monkeypatch.setattr(module, "choose_entrants", lambda fitting, *_: fitting[:2])
    run = module.FromScratchRunner.run

    def long_round(self, number, until):  # three epochs, however busy the machine is
        for _ in range(3 * 1438 // self.batch):
            next(self.steps)
        return run(self, number, 0.0)

    monkeypatch.setattr(module.FromScratchRunner, "run", long_round)
    made = fv.fit("digits", models=models, time_s=60.0, runs=tmp_path, threads=1)
    story = json.loads((made.folder / "story.json").read_text())
    assert story["goes_on_from_race"]
    assert made.summary["test_accuracy"] > max(c["val_accuracy"] for c in made.summary["race"]) - 0.05


def test_halving_needs_log2_rounds():
    assert [rounds_for(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [1, 1, 2, 2, 3, 3, 4]


def test_accuracies_within_a_standard_error_are_ranked_by_loss():
    close, best, far = (Entry(measured(1.0), None, a, loss) for a, loss in ((0.90, 0.2), (0.91, 0.3), (0.5, 0.1)))
    assert rank([best, far, close], 100) == [close, best, far]
    small, large = (Entry(measured(1.0, macs=m, weights="lite"), None, 0.9, 1.0 / m) for m in (5, 9))
    assert rank([small, large], 100) == [large, small]  # fine-tuning: the larger of equals


def test_another_resolution_keeps_the_share_that_a_crop_sees():
    p = at_resolution(Preprocess(resolution=224, resize=256), 112)
    assert (p.resolution, p.resize) == (112, 128)
    assert with_change(Preprocess(), "resolution=448") == Preprocess(resolution=448, resize=512)
    assert with_change(Preprocess(), "resize=230") == Preprocess(resize=230)


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_folder(tmp_path, photos):
    class TurnedBad:
        def __call__(self, event):
            if isinstance(event, StageEvent):  # after the scan, before the pictures are read
                with open(photos / "train" / "cat" / "0.jpg", "r+b") as file:
                    file.truncate(300)

    with pytest.raises(fv.DataError, match=r"0\.jpg"):
        fv.train(
            photos, "resnet20_cifar", overrides=["preprocess.resolution=32"], runs=tmp_path / "r", listener=TurnedBad()
        )
    assert list((tmp_path / "r").iterdir()) == []


def test_what_is_looked_at_follows_the_pictures_and_the_budget(photos, monkeypatch):
    from foveate.selection import candidates

    def cheap(field, budget, threads, until, listener):  # 1 ms for 100 million multiply-adds of any network
        costs = [cost_of(c.model, c.preprocess.resolution) for c in field]
        return [
            dataclasses.replace(measured(cost / 1e8, macs=round(cost)), candidate=c)
            for c, cost in zip(field, costs, strict=True)
        ]

    monkeypatch.setattr(candidates, "measure_all", cheap)

    def seen(data, budget, most_ms=1000.0):
        found = look(open_data(data), None, None, budget, 1, most_ms, 1e9, lambda *_: None)
        return [(m.candidate.model, m.candidate.preprocess.resolution, m.latency.median_ms) for m in found]

    assert {size for _, size, _ in seen("digits", Budget())} == {16}
    free = seen(photos, Budget())  # 90 x 120 pixels
    assert {size for _, size, _ in free} == {96} and ("resnet18", 96) in [found[:2] for found in free]
    assert len({fv.variant(name).family for name, _, _ in free}) >= 5
    small = seen(photos, Budget(max_latency_ms=0.5))
    assert sum(ms <= 0.45 for *_, ms in small) >= 5 and max(ms for *_, ms in small) < 5.0
    assert len(seen(photos, Budget(max_latency_ms=0.001))) >= 2  # the cheapest one is the nearest
    assert all(ms < 5.0 for *_, ms in seen(photos, Budget(), most_ms=0.5))


def test_a_latency_over_the_budget_is_measured_twice_more():
    from types import SimpleNamespace

    times = iter(SimpleNamespace(median_ms=ms) for ms in (5.5, 5.2, 6.0, 4.0))
    assert measure_last(lambda: next(times), 5.0).median_ms == 5.2
    assert measure_last(lambda: next(times), 5.0).median_ms == 4.0


@pytest.mark.parametrize("model", small_or("resnet20_cifar"))
def test_compress_makes_a_smaller_network_of_the_one_that_was_found(model, small_nets, tmp_path):
    """In OpenVINO, whose files then lie in the model folders."""
    made = fv.fit("digits", models=model, time_s=2.0, threads=1, compress=True, runtime="openvino", runs=tmp_path)
    assert made.folder.name == "digits-small-1"
    first = json.loads((tmp_path / "digits-1" / "summary.json").read_text())
    assert made.summary["macs"] <= first["macs"]
    assert made.summary["macs"] < first["macs"] or made.summary["test_accuracy"] == first["test_accuracy"]
    assert made.summary["runtime"].startswith("openvino") and first["runtime"].startswith("openvino")
    picture = open_data("digits").splits["test"].pixels[0]
    answers = [fv.load(made.folder / "best" / name).predict(picture) for name in (".", "model.onnx", "model.xml")]
    assert [len(answer) for answer in answers] == [5, 5, 5]
    assert [name for name, _ in answers[1]] == [name for name, _ in answers[2]]


def test_a_runtime_that_is_not_installed_is_said_before_anything_is_done(monkeypatch, tmp_path):
    monkeypatch.setattr("foveate.deploy.openvino.missing", lambda precision="fp32": "OpenVINO is not installed: pip")
    with pytest.raises(fv.ConfigError, match="OpenVINO is not installed: pip"):
        fv.fit("digits", runtime="openvino", runs=tmp_path / "runs")
    with pytest.raises(fv.ConfigError, match="not installed"):
        compress(tmp_path, "digits", macs=0.5, runtime="openvino")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", small_or("resnet20_cifar"))
def test_searched_nets_race_against_the_zoo(model, small_nets, tmp_path):
    from small_space import SPACE

    (tmp_path / "tiny.py").write_text(SPACE)
    told = []
    made = fv.fit(
        "digits",
        models=model,
        search=str(tmp_path / "tiny.py"),
        time_s=3.0 if model in NETS else 10.0,
        threads=1,
        runs=tmp_path / "runs",
        listener=told.append,
    )
    names = {event.model for event in told if isinstance(event, CandidateEvent)}
    searched = {name for name in names if name.startswith("tiny, trial ")}
    assert model in names and searched  # measured; who enters depends on the time that there is
    assert made.summary["model"] in names
    assert (tmp_path / "runs" / "search-digits-1" / "results.json").exists()
    assert made.folder == tmp_path / "runs" / "digits-1" and made.summary["test_n"] > 0
    with pytest.raises(fv.ConfigError, match="--search makes new networks"):
        fv.fit("digits", search="mnasnet", weights="lite")


@pytest.mark.parametrize("metric", ["acuracy", "recall@"])
def test_a_metric_that_is_none_is_refused_before_any_picture_is_read(metric, tmp_path):
    with pytest.raises(fv.ConfigError, match="expected accuracy, balanced, f1 or recall@CLASS"):
        fv.fit(tmp_path / "nothing", metric=metric)


def test_the_summary_says_what_it_is_compared_with_and_how_long_it_took(run):
    s = run[0].summary
    assert [row["name"] for row in s["baselines"]] == [s["baselines"][0]["name"], s["model"]]
    assert s["baselines"][-1]["test_accuracy"] == s["test_accuracy"]
    assert s["time_s"] == 1.0 and s["seconds"] > 0 and s["weights"] is None
    assert all(set(w) == {"code", "text"} for w in s["warnings"])
    assert 1 <= len(s["next_steps"]) <= 3 and all(n["do"] and n["why"] for n in s["next_steps"])
