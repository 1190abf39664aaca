"""A run that is killed at any point goes on bit-identically; a run that is asked to stop saves first."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

POINTS = (
    "step:1",
    "step:7",
    "epoch.before_evaluate:2",
    "epoch.after_evaluate:1",
    "checkpoint.before:4",
    "folder.mid_write:9",
    "folder.before_rename:8",
    "folder.between_renames:1",
    "folder.after_rename:5",
    "write.before_rename:2",
    "write.after_rename:2",
    "checkpoint.after:9",
)


@pytest.fixture(scope="module")
def random_steps(request):
    """How many random steps are tried, half of them with workers."""
    return 20 if request.config.getoption("--all") else 4


@pytest.fixture(scope="module")
def cases(tmp_path_factory, random_steps):
    """All cases from one driver process (it pays for importing torch once)."""
    driver = Path(__file__).with_name("crash_driver.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = tmp_path_factory.mktemp("crash")
    command = [sys.executable, str(driver), str(root), ",".join(POINTS), str(random_steps)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return {"root": root, **json.loads(done.stdout)}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_and_resumed_equals_never_killed_to_the_bit(cases, point):
    case = cases[point]
    assert case["exit"] == -9  # the point was passed and the process killed itself there
    assert case["resumed"] == 0
    assert case["files"] == cases["straight-adamw"]["files"]
    assert not [n for n in case["leftovers"] if n.endswith((".tmp", ".old"))]


def test_random_steps_with_every_refinement_and_with_and_without_workers(cases, random_steps):
    found = {name: case for name, case in cases.items() if name.startswith("all step:")}
    assert len(found) == random_steps
    for name, case in found.items():
        assert (case["exit"], case["resumed"]) == (-9, 0), name
        assert case["files"] == cases["straight-all"]["files"], name


def test_the_same_with_sgd_dropout_and_no_average(cases):
    assert cases["sgd step:8"]["exit"] == -9
    assert cases["sgd step:8"]["files"] == cases["straight-sgd"]["files"]


def test_pictures_from_files_and_from_memory_train_to_the_same_bits(cases):
    assert cases["straight-streaming"]["files"] == cases["straight-adamw"]["files"]
    assert cases["streaming step:7"]["files"] == cases["straight-adamw"]["files"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_the_first_signal_finishes_the_step_and_saves(cases, name, code):
    case = cases[name]
    assert case["exit"] == code
    assert case["seconds"] < 10
    assert case["files"] == cases["straight-adamw"]["files"]


def test_the_second_signal_ends_at_once_and_the_last_checkpoint_is_whole(cases):
    case = cases["SIGTERM twice"]
    assert case["exit"] == 128 + 15
    assert case["resumed"] == 0
    assert case["files"] == cases["straight-adamw"]["files"]


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_whole(cases):
    case = cases["full disk"]
    assert (case["exit"], case["resumed"]) == (1, 0)
    assert case["kept"] == ["step-00000002", "step-00000003"]  # nothing half-written beside them
    assert case["files"] == cases["straight-adamw"]["files"]


def test_metrics_rows_are_neither_lost_nor_doubled(cases):
    lines = (cases["root"] / "killed-1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(cases, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(cases["root"] / "straight-adamw", folder)
    newest, before = sorted((folder / "state").glob("step-*"), reverse=True)
    whole = (newest / "tensors.safetensors").read_bytes()
    (newest / "tensors.safetensors").write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    assert restored_step(folder) == int(before.name.removeprefix("step-"))


def test_a_hundred_flipped_bits_are_all_noticed(cases, tmp_path):
    import random

    from foveate.errors import FoveateError
    from foveate.train.checkpoint import _restore_one

    newest = max((cases["root"] / "straight-adamw" / "state").glob("step-*"))
    rng, state = random.Random(0), fresh_state()
    for i in range(100):
        target = tmp_path / f"c{i}"
        shutil.copytree(newest, target)
        name = rng.choice(["tensors.safetensors", "state.json", "sums.json"])
        data = bytearray((target / name).read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (target / name).write_bytes(data)
        with pytest.raises((FoveateError, OSError, KeyError)):  # what restore passes over
            _restore_one(target, state)
        shutil.rmtree(target)


def fresh_state():
    import torch
    from crash_driver import RECIPE, tiny

    from foveate.train.state import State
    from foveate.zoo import FAMILIES, build

    config = tiny(0.3)
    torch.manual_seed(1)
    return State(build(config), build(config), RECIPE, FAMILIES[config.family].head, "cpu")


def restored_step(folder):
    from foveate.train.checkpoint import restore

    warnings = []
    state = fresh_state()
    restore(folder / "state", state, warnings.append)
    assert len(warnings) == 1 and "can not be used" in warnings[0]
    return state.step
