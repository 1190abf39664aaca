"""foveate analyse, from a model folder to analysis.json, page and tables; stopped, gone on with, refused."""

import json
import math
import os
import re
import shutil
import signal
import time

import pytest
import torch
from torch import nn

from foveate.cli import main
from foveate.config import replace
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, DataError, FoveateError, Interrupted
from foveate.files import write_folder, write_json
from foveate.layers import Layers
from foveate.report.analysis import cell, table
from foveate.runs.plan import Plan
from foveate.train.artefact import ModelCard, model_files
from foveate.train.recipe import Optim, Recipe
from foveate.workflows.analyse import parts, run, subject
from foveate.workflows.analyse.advice import advise
from foveate.zoo import build
from foveate.zoo.families.resnet import network as resnet

P = Preprocess(resolution=8, resize=8, fit="squash")
STAGES = (resnet.Stage(8, (12,), 1), resnet.Stage(12, (12,), 2))
TINY = resnet.ResNetConfig(
    STAGES,
    stem="cifar",
    pool="none",
    stem_widths=(8,),
    num_classes=10,
    resolution=8,
    layers=Layers(attn="se(ratio=0.25)"),
)
RECIPE = Recipe(epochs=1, batch=32, optim=Optim(lr=0.1))
ALL = ("curvature", "sphere", "features", "gates", "robustness", "redundancy")


def saved(folder, config=TINY, recipe=RECIPE):
    """A run folder with a network of random weights that says digits were its pictures."""
    dataset = open_data("digits")
    torch.manual_seed(0)
    facts = {"model": "tiny", "fingerprint": dataset.fingerprint}
    write_folder(folder / "best", model_files(ModelCard(config, dataset.classes, P, facts), build(config).state_dict()))
    write_json(folder / "recipe.json", Plan("digits", "tiny", config, recipe, P))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("a run"))


@pytest.fixture(autouse=True, scope="module")
def short():
    """Fewer Lanczos steps, batches and epochs: what is asked here is the way from part to page."""
    kept = {
        k: getattr(parts, k)
        for k in ("STEPS", "DRAWS", "QUICK_STEPS", "BATCHES", "SWEEP", "SWEEP_EPOCHS", "SEVERITIES")
    }
    parts.STEPS, parts.DRAWS, parts.QUICK_STEPS, parts.BATCHES = 6, 2, 4, (16, 32)
    parts.SWEEP, parts.SWEEP_EPOCHS = 2, 4
    parts.SEVERITIES = (1, 3)
    yield
    for k, v in kept.items():
        setattr(parts, k, v)


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return run.analyse(str(source), "digits", pictures=64, elr=(1e-3, 1.0), runs=runs, masks=2)


def test_every_part_is_there_with_its_keys(done):
    s = json.loads((done.folder / "analysis.json").read_text())
    assert s == json.loads(json.dumps(done.summary))
    assert all("reason" not in s[part] for part in ALL)
    curvature = s["curvature"]
    assert {"top", "bottom", "trace", "trace_interval", "batch", "by_batch"} <= set(curvature)
    assert curvature["batch"] == 64 and curvature["mode"] == "evaluation"
    assert curvature["bottom"] < 0 < curvature["top"]
    assert [row["batch"] for row in curvature["by_batch"]] == [16, 32]
    assert curvature["by_batch"][1]["adam_factor"] == pytest.approx(math.sqrt(2))
    low, high = curvature["trace_interval"]
    assert low < curvature["trace"] < high
    stage = s["features"]["stages"][0]
    assert {"name", "rank", "effective_rank", "correlation", "mean", "std", "dead"} <= set(stage)
    assert 0 < s["sphere"]["share"] < 1 and len(s["sphere"]["runs"]) == 2
    assert len(s["gates"]["gates"]) == 2 and set(s["gates"]["removals"]) >= {"layer1", "layer2"}
    assert {(row["kind"], row["severity"]) for row in s["robustness"]["corruptions"]} >= {("noise", 1), ("jpeg", 3)}
    assert set(s["robustness"]["attacks"]) == {"fgsm", "pgd"}
    assert 0 <= s["redundancy"]["rates"]["0.01"]["rate"] <= 1
    assert len(s["advice"]) <= 3 and all(isinstance(line, str) and line for line in s["advice"])


def test_page_and_tables(done):
    page = (done.folder / "report.html").read_text()
    assert page.count("<svg") >= 4 and all(f'id="{part}"' in page for part in ALL)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    rows = (done.folder / "features.csv").read_text().splitlines()
    assert rows[0].startswith("name,channels,samples,rank") and len(rows) > 2
    assert {p.name for p in done.folder.glob("*.csv")} == {
        f"{p}.csv" for p in ("curvature", "sphere", "features", "gates", "robustness")
    }
    assert (
        table([{"a": 1, "b": [2]}]) == "a\n1\n"
        and table([{"a": "=1+1"}]) == "a\n'=1+1\n"
        and cell(None) == "–"
        and cell(0.123456) == "0.1235"
    )


def test_a_second_network_stands_beside(source, tmp_path):
    """The white order beside the usual one, from random weights."""
    other = saved(tmp_path / "white", replace(TINY, layers=Layers(norm="iter_norm")))
    made = run.analyse(str(source), "digits", what=("features",), pictures=32, beside=str(other), runs=tmp_path)
    stages = [f["features"]["stages"] for f in (made.summary, made.summary["beside"])]
    assert [s["name"] for s in stages[0]] == [s["name"] for s in stages[1]] and stages[0] != stages[1]
    page = (made.folder / "report.html").read_text()
    assert len(re.findall(r"<td[^>]*><bdi>tiny</bdi></td>", page)) == 2 * len(stages[0])


def test_a_stopped_analysis_goes_on_with_what_is_missing(done, tmp_path, monkeypatch):
    folder = tmp_path / "again"
    shutil.copytree(done.folder, folder)
    (folder / "parts" / "features.json").unlink()
    asked = []
    monkeypatch.setattr(
        run, "PARTS", {k: (lambda s, c, k=k, f=f: (asked.append(k), f(s, c))[1]) for k, f in parts.PARTS.items()}
    )
    again = run.analyse("", "", resume=folder)
    assert asked == ["features"]
    assert again.summary["features"] == done.summary["features"]
    assert again.summary["curvature"] == done.summary["curvature"]


def test_without_time_a_part_is_left_for_later(source, tmp_path):
    first = run.analyse(str(source), "digits", what=("features", "sphere"), pictures=64, runs=tmp_path, time_s=600)
    (first.folder / "parts" / "sphere.json").unlink()
    short_of = run.analyse("", "", resume=first.folder, time_s=1e-9)
    assert "no time" in short_of.summary["sphere"]["reason"] and "stages" in short_of.summary["features"]
    assert not (first.folder / "parts" / "sphere.json").exists()
    assert "groups" in run.analyse("", "", resume=first.folder, time_s=600).summary["sphere"]


def test_curvature_takes_what_the_time_allows(source):
    s = subject.open_subject(
        str(source), "digits", pictures=200, seed=0, bad_files="stop", follow_links=False, listener=lambda event: None
    )
    with pytest.raises(parts.NoTime, match=r"curvature takes .* at least here"):
        parts.curvature(s, parts.Clock(1e-6, parts.time.monotonic()))
    told = iter([1000.0, 600.0 + 1e-6, 1000.0])  # in all, after one product, where the least is compared; then nothing

    class Hurried(parts.Clock):
        def left(self):
            return next(told, 0.0)

    hurried = parts.curvature(s, Hurried(1000.0, 0.0))
    assert hurried["batch"] == parts.FEWEST and hurried["steps"] == parts.LEAST_STEPS
    assert hurried["by_batch"] == [] and hurried["gauss_newton"] is None and hurried["sharpness"] is None
    assert hurried["top"] > hurried["bottom"] and hurried["training"]["top"]


def test_pictures_are_as_many_as_the_time_allows(source):
    s = subject.open_subject(
        str(source), "digits", pictures=200, seed=0, bad_files="stop", follow_links=False, listener=lambda event: None
    )
    assert subject.affordable(s, 1e-6) == (subject.LEAST, subject.LEAST)
    few, many = subject.affordable(s, 1e3), subject.affordable(s, 1e6)
    assert many[0] > few[0] > few[1] > subject.LEAST
    assert [len(part[0]) for part in (s.fewer(9, 7).seen, s.fewer(9, 7).unseen)] == [9, 7]


def test_a_signal_gives_up_the_part_under_way(source, tmp_path, monkeypatch):
    def endless(subject, clock):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setitem(parts.PARTS, "sphere", endless)
    with pytest.raises(Interrupted, match="analyse --resume") as caught:
        run.analyse(str(source), "digits", what=("features", "sphere"), pictures=32, runs=tmp_path, name="cut")
    assert caught.value.exit_code == 75
    assert [p.name for p in (tmp_path / "cut-1" / "parts").iterdir()] == ["features.json"]


def test_a_zoo_name_has_random_weights_and_says_so(tmp_path):
    told = []
    made = run.analyse(
        "resnet8_cifar" if subject.known_name("resnet8_cifar") else "resnet20_cifar",
        "digits",
        what=("features",),
        pictures=32,
        runs=tmp_path,
        listener=lambda event: told.append(str(event)),
    )
    assert not made.summary["trained"] and any("random weights" in text for text in told)


def test_what_a_network_has_not_is_one_line(tmp_path):
    plain = replace(TINY, layers=Layers(norm="none"))
    folder = saved(tmp_path / "plain", plain)
    made = run.analyse(str(folder), "digits", what=("sphere", "gates", "features"), pictures=48, runs=tmp_path)
    assert made.summary["sphere"]["reason"].startswith("no scale invariance")
    assert made.summary["gates"]["reason"].startswith("no gates")
    with pytest.raises(FoveateError, match="no gates"):
        run.analyse(str(folder), "digits", what=("gates",), pictures=48, runs=tmp_path)
    with pytest.raises(FoveateError, match=r"32 pictures for the \d+ units|redundancy"):
        run.analyse(
            str(saved(tmp_path / "wide", replace(TINY, stages=(resnet.Stage(40, (64,), 1),)))),
            "digits",
            what=("redundancy",),
            pictures=32,
            runs=tmp_path,
        )


def test_refusals(source, tmp_path):
    with pytest.raises(ConfigError, match="did you mean curvature"):
        run.analyse(str(source), "digits", what=("curvatur",), runs=tmp_path)
    with pytest.raises(DataError, match="classes are not those"):
        run.analyse(str(source), "clothes", what=("features",), runs=tmp_path)
    with pytest.raises(ConfigError):
        run.analyse("resnet50000", "digits", what=("features",), runs=tmp_path)
    with pytest.raises(ConfigError, match=r"analyse\.json"):
        run.analyse("", "", resume=tmp_path)


def test_one_class_is_one_line(tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        (tmp_path / "data" / split / "only").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (40 * i, 0, len(split))).save(tmp_path / "data" / split / "only" / f"{i}.png")
    with pytest.raises(FoveateError) as caught:
        run.analyse("resnet20_cifar", tmp_path / "data", what=("curvature",), runs=tmp_path)
    assert "\n" not in str(caught.value) and "class" in str(caught.value)


def test_advice_names_the_figure_and_the_change(source):
    s = subject.open_subject(
        str(source), "digits", pictures=32, seed=0, bad_files="stop", follow_links=False, listener=lambda event: None
    )
    seen = {"top": 100.0, "batch": 32}
    steep = {"curvature": {"lr": 0.9, "lr_batch": 32, "top": 100.0, "training": seen, "by_batch": []}}
    (line,) = advise(steep, s)
    assert "optim.lr=0.04" in line and "0.9" in line and "0.038" in line
    quiet = {"curvature": {**steep["curvature"], "lr": 0.03}}
    assert advise(quiet, s) == []
    dead = {
        "features": {
            "stages": [{"name": "stride 8", "channels": 10, "dead": 5, "effective_rank": 8.0, "correlation": 0.1}]
        }
    }
    assert "5 of 10 channels of stride 8 are dead" in advise(dead, s)[0]
    assert advise({"gates": {"reason": "no gates"}}, s) == []
    rates = {"redundancy": {"rates": {"0.01": {"rate": 0.6}}}}
    assert "compress --macs 0.4" in advise(rates, s)[0]
    assert (
        len(
            advise(
                {
                    **steep,
                    **dead,
                    **rates,
                    "robustness": {
                        "clean": {"accuracy": 0.9, "interval": [0.8, 0.95]},
                        "corruptions": [{"kind": "blur", "severity": 3, "accuracy": 0.2, "interval": [0.1, 0.3]}],
                    },
                },
                s,
            )
        )
        == 3
    )
    few = {
        "clean": {"accuracy": 0.9, "interval": [0.5, 0.98]},
        "corruptions": [{"kind": "blur", "severity": 3, "accuracy": 0.5, "interval": [0.2, 0.8]}],
    }
    assert advise({"robustness": few}, s) == []  # as so few pictures may differ by chance


def test_the_loss_is_that_of_the_recipe(source):
    s = subject.open_subject(
        str(source), "digits", pictures=32, seed=0, bad_files="stop", follow_links=False, listener=lambda event: None
    )
    z, y = torch.randn(5, 10), torch.arange(5)
    smoothing = s.recipe.loss.smoothing
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)(z, y)
    assert float(s.loss(z, y)) == pytest.approx(float(expected), rel=1e-5)
    assert s.lr == pytest.approx(0.1) and s.trained


def test_the_command(source, tmp_path, capsys):
    code = main(
        [
            "analyse",
            str(source),
            "digits",
            "--what",
            "features,redundancy",
            "--pictures",
            "64",
            "--runs",
            str(tmp_path),
            "--json",
            "--quiet",
        ]
    )
    out = capsys.readouterr().out
    found = json.loads(out)
    assert code == 0 and {"features", "redundancy", "advice"} <= set(found) and "curvature" not in found
    assert main(["analyse", "--resume", found["run"]]) == 0
    out = capsys.readouterr().out
    assert "features" in out and "redundancy" in out and "report" in out
    assert main(["analyse", str(source), "digits", "--elr", "1:0.1"]) == 2
    assert "--elr" in capsys.readouterr().err
    assert main(["analyse", str(source)]) == 2
    assert "DATA is missing" in capsys.readouterr().err
