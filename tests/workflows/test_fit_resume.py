"""A fit that is killed in one stage after the other, and goes on; settings beside --resume."""

import importlib
import json
import os
import signal

import pytest
from forked import start

import foveate as fv
from foveate.cli import main
from foveate.zoo import FAMILIES

BASE = fv.variant("resnet20_cifar")
SMALL = fv.replace(BASE, stages=tuple(fv.replace(s, mid=s.mid[:1]) for s in BASE.stages))
NETS = {"resnet8_small": SMALL, "preresnet8_small": fv.replace(SMALL, order="pre")}
POINTS = (  # in the order of the stages; each session dies at the next one
    "fit.request",
    "fit.measured:1",
    "fit.looked",
    "fit.round:1",
    "fit.round:1",
    "fit.winner",
    "checkpoint.after:1",
    "run.trained",
    "run.tested",
    "fit.finished",
)


def session(runs, folder, crash, stop=0):
    """One process: a fit of digits with two small networks, or what is left of it."""
    os.environ["FOVEATE_CRASHPOINT"] = crash
    FAMILIES["resnet"].variants.update(NETS)
    importlib.import_module("foveate.workflows.fit").choose_entrants = lambda fitting, *_: list(fitting)

    def listener(event):
        if stop and "race, round" in getattr(event, "text", ""):
            os.kill(os.getpid(), stop)

    try:
        if folder:
            fv.fit(resume=folder, listener=listener)
        else:
            fv.fit("digits", models="*resnet8_small", time_s=200.0, threads=1, seed=3, runs=runs, listener=listener)
    except fv.FoveateError as error:
        (runs / "said.txt").write_text(str(error))
        os._exit(error.exit_code)


def end(*arguments):
    process = start(session, *arguments)
    process.join(120)
    return process.exitcode


def content(path):
    return json.loads(path.read_text()) if path.exists() else None


SPENT = {
    "fit.looked": 160.0,
    "fit.round:1": 160.0,
    "fit.winner": 199.0,
}  # of 200 s, said in the run's stead: what follows is then short


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that died at every point in turn, and what lay there after each."""
    runs = tmp_path_factory.mktemp("runs")
    folder, seen = runs / "digits-1", []
    for i, point in enumerate(POINTS):
        code = end(runs, folder if i else None, point)
        assert code == -signal.SIGKILL, (point, code, content(folder / "candidates.json"))
        names = ("request", "candidates", "race", "winner")
        seen.append((point, {name: content(folder / f"{name}.json") for name in names}))
        if point in SPENT:
            (folder / "spent.json").write_text(json.dumps({"seconds": SPENT[point]}))
    assert end(runs, folder, "") == 0
    return folder, seen


def test_a_fit_killed_at_every_stage_goes_on_to_the_winner_that_was_written_down(killed):
    folder, seen = killed
    winner = next(found["winner"] for _, found in seen if found["winner"])
    assert content(folder / "summary.json")["model"] == winner["model"]
    assert all(found["winner"] in (None, winner) for _, found in seen)
    assert not (folder / "race").exists()
    assert {p.name for p in folder.parent.iterdir()} == {"digits-1"}


def test_nothing_that_was_written_down_is_measured_or_run_again(killed):
    before = {"candidates": [], "race": []}
    for _, found in killed[1]:
        measured = (found["candidates"] or {"measured": []})["measured"]
        rounds = (found["race"] or {"rounds": []})["rounds"]
        assert all(row in measured for row in before["candidates"]) and rounds[: len(before["race"])] == before["race"]
        before = {"candidates": measured, "race": rounds}
    assert len(before["candidates"]) == 2 and len(before["race"]) == 2


def test_the_end_of_a_run_that_was_cut_off_tells_each_number_once(killed):
    metrics = content(killed[0] / "best" / "config.json")["metrics"]
    assert [m["split"] for m in metrics] == ["val", "test"]


def test_a_finished_fit_is_said_to_be_finished(killed, capsys):
    folder = killed[0]
    before = (folder / "best" / "model.safetensors").read_bytes()
    assert main(["fit", "--resume", str(folder)]) == 0
    assert "is finished (" in capsys.readouterr().out
    assert fv.fit(resume=folder).before and (folder / "best" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--time", "200s"], None),
        (["digits", "--seed", "3", "--threads", "1"], None),
        (["--time", "201s"], "the run has --time 200.0, asked for 201.0"),
        (["--seed", "0"], "the run has --seed 3, asked for 0"),
        (["--max-latency", "5ms"], "the run has --max-latency none, asked for 5.0"),
        (["--compress"], "the run has --compress False"),
        (["photos"], "the run has DATA digits, asked for photos"),
        (["--name", "other"], "the run has --name digits-1"),
    ],
)
def test_settings_beside_resume_are_those_of_the_run_or_refused(killed, words, said, capsys):
    code = main(["fit", *words, "--resume", str(killed[0])])
    assert code == (0 if said is None else 2)
    assert said is None or said in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("search.json", "foveate search --resume"), ("", "nothing to go on with")])
def test_a_folder_without_a_fit_says_so(tmp_path, name, said):
    (tmp_path / (name or "notes.txt")).write_text("{}")
    with pytest.raises(fv.ConfigError, match=said):
        fv.fit(resume=tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_in_the_race_says_what_is_kept_and_how_to_go_on(tmp_path, number, code):
    assert end(tmp_path, None, "", number) == code
    said = (tmp_path / "said.txt").read_text()
    assert said.startswith("stopped; kept: 2 candidates")
    assert said.endswith(f"go on with: foveate fit --resume {tmp_path / 'digits-1'}") and "\n" not in said
