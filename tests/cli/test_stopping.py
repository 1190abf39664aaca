"""Ctrl-C and SIGTERM in every stage of every command: one line, the documented exit code, nothing half-written."""

import errno
import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_space import write_space

from foveate import files
from foveate.cli import main
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import Terminated
from foveate.train.artefact import ModelCard, model_files
from foveate.train.signals import Stop, resumable, stop_on_signals, unbroken
from foveate.zoo import build, variant

CLASSES = ("ant", "bee", "cat")
TINY = ("--model", "resnet20_cifar", "--recipe", "cifar_standard", "batch=8", "resolution=8", "epochs=1")
TRAIN = ("train", "DATA", *TINY)
ABLATE = (
    "ablate",
    "DATA",
    "--model",
    "resnet20_cifar",
    "--base",
    "cifar_standard",
    *TINY[4:],
    "--factors",
    "mixup",
    "--seeds",
    "1",
    "--workers",
    "1",
)
SEARCH = ("search", "DATA", "--space", "SPACE", "--trials", "1", "--epochs", "1", "--recipe", "cifar_standard")
FIT = ("fit", "DATA", "--models", "resnet20_cifar", "--time", "5s")
COMPRESS = ("compress", "MODEL", "DATA", "--macs", "0.7", "--epochs", "1", "--method", "norm", "--steps", "1")
# command, place where the signal comes ("name:n" is its n-th call), whether all is saved there
STAGES = (
    (TRAIN, "foveate.data.index.read_folder", False),
    (TRAIN, "foveate.data.gate.screen.header_fault", False),
    (TRAIN, "foveate.runs.training.settle", False),
    (TRAIN, "foveate.data.load.Pictures.read", False),
    (TRAIN, "foveate.runs.training.set_first_weights", False),
    (TRAIN, "foveate.train.step.pictures", True),
    (TRAIN, "foveate.train.settled.shared_logits", True),
    (TRAIN, "foveate.runs.finish.test_model", True),
    (TRAIN, "foveate.runs.finish.export_model", True),
    (TRAIN, "foveate.runs.finish.summarise", True),
    (FIT, "foveate.data.index.read_folder", False),
    (FIT, "foveate.workflows.fit.measure_candidates", True),
    (FIT, "foveate.selection.candidates.measure_candidate", True),
    (FIT, "foveate.workflows.fit.plan_training", True),
    (SEARCH, "foveate.data.index.read_folder", False),
    (SEARCH, "foveate.data.load.Pictures.read", True),
    (SEARCH, "foveate.workflows.search.objective.Objective.costs", True),
    (SEARCH, "foveate.workflows.search.evaluators.predict_logits", True),
    (SEARCH, "foveate.workflows.search.best.again", True),
    (ABLATE, "foveate.data.index.read_folder", False),
    (ABLATE, "foveate.workflows.ablate.design.settle", False),
    (ABLATE, "foveate.data.load.Pictures.read", True),
    (ABLATE, "foveate.train.step.pictures", True),
    (ABLATE, "foveate.workflows.ablate.trial.predict_logits", True),
    (COMPRESS, "foveate.data.index.read_folder", False),
    (COMPRESS, "foveate.data.load.Pictures.read", True),
    (COMPRESS, "foveate.workflows.compress.step.predict_logits", True),
    (COMPRESS, "foveate.train.step.pictures", True),
    (COMPRESS, "foveate.workflows.compress.run.finish", True),
    (("eval", "MODEL", "DATA"), "foveate.data.index.read_folder", False),
    (("eval", "MODEL", "DATA"), "foveate.data.load.Pictures.read", False),
    (("predict", "MODEL", "DATA/ant"), "foveate.deploy.classifier.prepare", False),
    (("profile", "MODEL", "--measure"), "foveate.cost.count.cost", False),
    (("export", "MODEL"), "foveate.deploy.export._by_dynamo", False),
    (("export", "MODEL"), "foveate.deploy.write.check_parity", False),
    (("doctor",), "foveate.workflows.doctor.environment.free_bytes", False),
    (("data", "check", "DATA"), "foveate.data.gate.check._look", False),
    (("data", "split", "DATA", "--out", "split.csv"), "foveate.data.index.read_folder", False),
    (("scale", "resnet20_cifar", "--macs", "2x"), "foveate.search.scaling.cost", False),
    (("models", "resnet*"), "foveate.zoo.catalogue.catalogue", False),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What stands for DATA, MODEL and SPACE."""
    root = tmp_path_factory.mktemp("inputs")
    for label, name in enumerate(CLASSES):
        (root / "data" / name).mkdir(parents=True)
        for i in range(12):
            noise = np.random.default_rng(100 * label + i).integers(0, 80, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(noise + np.uint8(80 * label)).save(root / "data" / name / f"{i}.png")
    config = replace(variant("resnet20_cifar"), num_classes=3, resolution=8)
    card = ModelCard(config, CLASSES, Preprocess(resolution=8, resize=8, fit="squash"), {})
    torch.manual_seed(0)
    files.write_folder(root / "model", model_files(card, build(config).state_dict()))
    return {"DATA": str(root / "data"), "MODEL": str(root / "model"), "SPACE": str(write_space(root))}


def signalled(place, number, patch):
    """The signal comes at the first call of a function or a method."""
    owner, name = importlib, ""
    parts = place.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        *inner, name = parts[cut:]
        for one in inner:
            owner = getattr(owner, one)
        break
    real, calls = getattr(owner, name), []

    def sent(*arguments, **named):
        if not calls:
            calls.append(1)
            os.kill(os.getpid(), number)
            time.sleep(0.05)  # in another thread than the main one: until the main one is told
        return real(*arguments, **named)

    patch.setattr(owner, name, sent)
    return calls


@pytest.mark.parametrize(
    ("arguments", "place", "saved"), STAGES, ids=[f"{a[0]}-{p.split('.', 1)[1]}" for a, p, _ in STAGES]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_signal_ends_a_command_with_a_line_and_its_code(
    arguments, place, saved, number, inputs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = [inputs.get(w, w.replace("DATA/", f"{inputs['DATA']}/")) for w in arguments]
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    before = sorted(os.listdir(inputs["MODEL"]))
    calls = signalled(place, number, monkeypatch)
    code = main(words)
    out, err = capsys.readouterr()
    assert calls, f"{place} was never called: {err}"
    said = err.strip().splitlines()[-1]
    term = number == signal.SIGTERM
    if saved:
        assert code == (75 if term else 130), err
        assert said.startswith("error: stopped") and "go on with: foveate " in said and "--resume" in said
    else:
        assert (code, said) == ((143, "terminated") if term else (130, "interrupted")), err
        assert not list(tmp_path.glob("runs/*/*")) and not list(tmp_path.glob("*.csv"))
    assert "Traceback" not in err and "Exception ignored" not in err and not out.strip()
    assert not [p for p in tmp_path.rglob("*") if ".tmp" in p.name or p.name in (".lock", ".owner")]
    assert sorted(os.listdir(inputs["MODEL"])) == before
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_signal_that_a_callback_swallows_is_obeyed_all_the_same(monkeypatch, capsys):
    """As when it comes while Python runs a destructor, which can raise nothing."""

    class Late:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def catalogue(*arguments, **named):
        Late()
        for _ in range(100):
            time.sleep(0.01)
        return []

    monkeypatch.setattr("foveate.zoo.catalogue.catalogue", catalogue)
    assert main(["models"]) == 143
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", "terminated")


def test_blocks_of_stop_on_signals_share_their_stop_and_obey_at_once_where_they_are_told():
    with stop_on_signals() as stop:
        with stop_on_signals() as inner:
            assert inner is stop
            signal.raise_signal(signal.SIGTERM)
            assert stop.signal == signal.SIGTERM  # noted
        assert isinstance(signal.getsignal(signal.SIGTERM).__self__, Stop)
        with pytest.raises(Terminated), stop.at_once():
            raise AssertionError("not reached")
    with stop_on_signals() as stop, pytest.raises(KeyboardInterrupt), stop.at_once():
        signal.raise_signal(signal.SIGINT)
    assert stop.immediate == 0


def test_files_that_belong_together_are_written_before_a_signal_is_obeyed():
    done = []
    with pytest.raises(Terminated), unbroken():
        signal.raise_signal(signal.SIGTERM)
        done.append(1)
    with stop_on_signals() as stop:
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            done.append(2)
        assert stop.signal == signal.SIGINT  # the block around it sees it
    assert done == [1, 2]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 75)])
def test_what_can_go_on_says_how(error, code):
    with (
        pytest.raises(Exception, match="go on with: foveate x --resume y") as caught,
        resumable("foveate x --resume y"),
    ):
        raise error
    assert caught.value.exit_code == code


def test_threads_of_a_command_sleep_while_they_wait():
    """Unless the environment says how, or torch is there and has read it."""
    import subprocess

    show = "import os; from foveate.cli import main; main(['--version']); print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
        said = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.split()[-1] == expected


@pytest.mark.parametrize("place", ["/proc/x", "/proc/self/x/y", "a file/runs", "a file", "a link", "full/runs"])
@pytest.mark.parametrize("command", [FIT, TRAIN, SEARCH, ABLATE, COMPRESS], ids=lambda c: c[0])
def test_a_folder_of_runs_that_can_not_be_written_is_refused_before_anything_is_read(
    command, place, inputs, tmp_path, monkeypatch, capsys
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    Path("a file").write_text("x")
    Path("a link").symlink_to("nowhere")
    if place.startswith("full"):
        monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("foveate.data.index.read_folder", lambda *a, **k: pytest.fail("read"))
    before = sorted(tmp_path.iterdir())
    assert main([*(inputs.get(w, w) for w in command), "--runs", place]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith(f"error: nothing can be written to {place}: ") and "another folder" in err
    assert sorted(tmp_path.iterdir()) == before
