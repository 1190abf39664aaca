"""int8 as a step of foveate compress: measured as a file, kept only where it is faster and loses little."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from compressible import call, step_row

from foveate.cli import main
from foveate.config import parse_json
from foveate.data.index import open_data
from foveate.deploy.exported import load_exported
from foveate.deploy.targets import open_exported
from foveate.workflows.compress import int8
from foveate.workflows.compress.goal import Goal
from foveate.workflows.compress.step import step_rows
from foveate.workflows.compress.targets import next_goal


@pytest.fixture
def always_faster(monkeypatch):
    """So that the clock decides nothing."""
    monkeypatch.setattr(int8, "MARGIN", -100.0)


def compressed(capsys, source, runs, *words):
    words = ("compress", source, "digits", *words, "--threads", "1", "--json", "--runs", runs)
    code, out, err = call(capsys, *words)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()], runs / "digits-1"


@pytest.fixture(scope="module")
def int8_run(source, tmp_path_factory):
    """The rows and the folder of a run to int8 in ONNX Runtime, whatever the clock says; read only."""
    runs, out = tmp_path_factory.mktemp("int8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(int8, "MARGIN", -100.0)
        words = ["--method", "int8", "--max-drop", "50", "--threads", "1", "--json", "--runs", str(runs)]
        assert main(["compress", str(source), "digits", *words]) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()], runs / "digits-1"


@pytest.mark.parametrize(("runtime", "name"), [("onnxruntime", "model_int8.onnx"), ("openvino", "model_int8.xml")])
def test_the_numbers_of_an_int8_step_are_those_of_its_file(
    source, tmp_path, capsys, always_faster, runtime, name, request
):
    if runtime == "onnxruntime":
        rows, run = request.getfixturevalue("int8_run")
    else:
        rows, run = compressed(capsys, source, tmp_path, "--method", "int8", "--max-drop", "50", "--runtime", runtime)
    assert [row["method"] for row in rows] == ["original", "int8"] and rows[1]["macs"] == rows[0]["macs"]
    session = open_exported(run / "steps" / "01-int8" / name)
    test = open_data("digits").splits["test"]
    logits = np.concatenate([session.run(picture[None]) for picture in test.pixels])
    assert rows[1]["test_accuracy"] == pytest.approx((logits.argmax(1) == test.labels).mean())
    chosen = next(row for row in rows if row["chosen"])
    result = parse_json((run / "result.json").read_bytes(), "result.json")
    assert result["test"]["accuracy"] == chosen["test_accuracy"]
    if chosen["method"] == "int8":
        assert result["latency"]["precision"] == "int8" and "int8" in result["budget"]["text"]
        assert result["cost"]["size_bytes"] == chosen["size_bytes"]
        assert "accuracy of the int8 file" in (run / "best" / "README.md").read_text()
        assert len(load_exported(run / "best" / name).predict(test.pixels[0])) == 5
    assert (run / "best" / "model.onnx").is_file()


def test_int8_that_is_not_faster_is_not_kept(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(int8, "MARGIN", 1.0)
    rows, run = compressed(capsys, source, tmp_path, "--method", "int8", "--max-drop", "50")
    assert [row["chosen"] for row in rows] == [True, False]
    assert step_rows(run)[1]["why"].startswith("not faster")
    assert not (run / "best" / "model_int8.onnx").exists()


def test_auto_stops_at_int8_where_that_is_small_enough(source, int8_run, tmp_path, capsys, always_faster):
    """And removes channels where it is not, which the next target asks for."""
    rows, _ = int8_run
    limit = rows[1]["size_bytes"] + 100
    assert limit < rows[0]["size_bytes"]
    words = ("--max-drop", "50", "--epochs", "1", "--steps", "1", "--max-size")
    rows, run = compressed(capsys, source, tmp_path / "b", *words, f"{limit / 1000:.3f}kB")
    assert [row["method"] for row in rows] == ["original", "int8"] and rows[1]["chosen"]
    assert rows[1]["size_bytes"] <= (run / "best" / "model_int8.onnx").stat().st_size <= limit
    rows, _ = compressed(capsys, source, tmp_path / "c", *words, f"{0.8 * limit / 1000:.3f}kB")
    assert len(rows) >= 3 and rows[1]["method"] == "int8" and rows[2]["method"] not in ("original", "int8")
    assert rows[2]["macs"] < rows[0]["macs"]


def test_int8_can_not_save_multiply_adds(source, tmp_path, capsys):
    code, _, err = call(
        capsys, "compress", source, "digits", "--macs", "0.5", "--method", "int8", "--quiet", "--runs", tmp_path
    )
    assert code == 2 and "as many multiply-adds" in err


def test_what_int8_saves_need_not_be_removed(monkeypatch):
    """A form at 0.6 of the latency: the next step needs 3 / 0.6 ms, not 3; one step of it, for that is near."""
    rows = [step_row(0, 0.9, 6.3e6), step_row(1, 0.9, 6.3e6) | {"method": "int8", "latency_ms": 3.78, "kept": True}]
    rows[0] |= {"method": "original", "latency_ms": 6.3}
    goal = Goal("m", "latency_ms", 3.0, steps=2)
    monkeypatch.setattr("foveate.workflows.compress.targets.config_of", lambda row: None)
    run = SimpleNamespace(goal=goal, cost=lambda config: 6.3)
    assert next_goal(run, rows) == pytest.approx(5.0)
    assert next_goal(run, rows[:1]) == pytest.approx((6.3 * 3.0) ** 0.5)  # two equal steps without one
    slow = [rows[0], rows[1] | {"kept": False}]
    assert next_goal(run, slow) == next_goal(run, rows[:1])
    assert next_goal(run, [rows[0], rows[1] | {"latency_ms": 2.9}]) is None


def test_a_step_is_asked_for_more_than_what_two_measurements_differ_by(monkeypatch):
    """5.59 and 5.46 ms of the same net, whose int8 form takes 3.21 for 3.17: a goal of 5.51 would remove nothing."""
    rows = [step_row(0, 0.9, 5.2e6), step_row(1, 0.9, 5.2e6) | {"method": "int8", "latency_ms": 3.21, "kept": True}]
    rows[0] |= {"method": "original", "latency_ms": 5.59}
    monkeypatch.setattr("foveate.workflows.compress.targets.config_of", lambda row: None)
    run = SimpleNamespace(goal=Goal("m", "latency_ms", 3.17, steps=2), cost=lambda config: 5.46)
    assert next_goal(run, rows) == pytest.approx(0.95 * 5.46)
