"""What Python shows of a run: one line that is written over on a terminal, lines in a log, nothing where it is off."""

import io
import sys

from foveate.events import StageEvent, StepEvent, silent
from foveate.report.progress import OneLine, Plain, hear
from foveate.runs.run import Run


def step(n):
    return StepEvent("resnet18", n, 10, 1, 1, 99.0, loss=1 / n)


def test_steps_are_written_over_and_the_rest_stays():
    said = io.StringIO()
    tell = OneLine(said)
    for event in (StageEvent("reading"), step(1), step(2), StageEvent("ok")):
        tell(event)
    shown = said.getvalue()
    assert shown.count("\n") == 2 and shown.startswith("\rreading\n\rresnet18") and shown.rstrip(" \n").endswith("\rok")


def test_a_listener_is_kept_and_progress_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert hear(print) is print and hear(None, progress=False) is silent
    assert isinstance(hear(None), Plain)


def test_a_run_is_a_line_and_a_small_table(tmp_path):
    summary = {"model": "<i>", "test_accuracy": 0.9, "test_interval": (0.8, 0.95), "latency_ms": 1.5, "size_bytes": 7}
    run = Run(tmp_path, summary)
    assert "\n" not in repr(run) and "90.0 % (80.0 to 95.0)" in repr(run) and "&lt;i&gt;" in run._repr_html_()
    assert (run.accuracy, run.interval, run.latency_ms, run.size_bytes) == (0.9, (0.8, 0.95), 1.5, 7)
    assert run.best == tmp_path / "best" and Run(tmp_path, {}).accuracy is None
