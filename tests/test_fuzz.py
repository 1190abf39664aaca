"""A few damaged and hostile inputs for every reader, in one child with limits; scripts/fuzz tries a million."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

REGRESS = Path(__file__).parent / "regress"
# inputs of each target: 2,000 in all, most for what is quick to try
INPUTS = {"header": 580, "picture": 300, "crop": 100, "card": 40, "table": 250, "safetensors": 200, "checkpoint": 80}
INPUTS |= {"onnx": 300, "words": 150}


def test_damaged_and_hostile_input_gives_typed_errors_in_bounded_memory_and_time(tmp_path):
    assert set(INPUTS) == set(fuzzing.TARGETS) and sum(INPUTS.values()) == 2000
    words = [f"{name}={count}" for name, count in INPUTS.items()]
    child = [sys.executable, str(Path(fuzzing.__file__)), str(tmp_path), "7", *words]
    done = subprocess.run(
        child, capture_output=True, text=True, timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    at = tmp_path / "current"
    assert done.returncode == 0, (
        f"{done.returncode} {done.stderr[-2000:]} {at.read_bytes()[:200] if at.exists() else ''}"
    )
    found = json.loads(done.stdout)
    for name, counts in found.items():
        assert counts["good"] + counts["refused"] == INPUTS[name]
        assert counts["good"] and counts["refused"], name  # both sides of the checks are reached
        assert counts["added_bytes"] <= fuzzing.MEMORY


@pytest.mark.parametrize("place", sorted(REGRESS.glob("*-*")), ids=lambda place: place.name)
def test_what_was_found_once_is_good_or_refused(place, tmp_path):
    name = place.name.partition("-")[0]
    assert fuzzing.tried(name, place.read_bytes(), tmp_path) in ("good", "refused")


def test_the_changes_are_the_same_every_time():
    first = fuzzing.corpus("table")
    one, two = ([fuzzing.changed(first[0], first, fuzzing.random.Random(f"0 {i}")) for i in range(50)] for _ in "ab")
    assert one == two and len(set(one)) > 40


def test_a_fault_ends_the_child_and_its_input_is_kept(tmp_path, monkeypatch):
    def fault(data, folder):
        raise ZeroDivisionError

    monkeypatch.setitem(fuzzing.TARGETS, "words", fault)
    with pytest.raises(ZeroDivisionError):
        fuzzing.tried("words", b"x", tmp_path)


LIMITED = """
import sys
from pathlib import Path
import fuzzing
folder, fault = Path(sys.argv[1]), sys.argv[2]
fuzzing.SECONDS = 1
fuzzing.TARGETS["words"] = lambda data, folder: exec(fault) if (folder / "current").exists() else None
fuzzing.run("words", 0, 0, 1, folder)
"""


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("bytearray(600 * 2**20)", 1, b"MemoryError"),
        ("while True: pass", -signal.SIGPROF, b""),
        ("__import__('os').abort()", -signal.SIGABRT, b""),
    ],
    ids=["memory", "time", "crash"],
)
def test_the_child_has_limits(fault, code, said, tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    child = [sys.executable, "-c", LIMITED, str(tmp_path), fault]
    done = subprocess.run(child, capture_output=True, timeout=60, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == code and said in done.stderr, done.stderr
    assert (tmp_path / "current").exists()
