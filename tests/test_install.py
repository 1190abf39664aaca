"""scripts/install: its options, and what it hands to pip, seen by a Python that only writes such calls down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[1] / "scripts" / "install"


@pytest.fixture
def install(tmp_path):
    """Run it in an environment whose python logs `-m pip` calls and does everything else."""
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    python, log = env / "bin" / "python", tmp_path / "calls"
    python.write_text(
        f'#!/bin/sh\nif [ "$1 $2" = "-m pip" ]; then echo "$@" >> {log}; else exec {sys.executable} "$@"; fi\n'
    )
    python.chmod(0o755)

    def run(*arguments):
        settings = os.environ | {"PYTHON": sys.executable}
        done = subprocess.run(
            [INSTALL, *arguments, env, "core"], capture_output=True, text=True, env=settings, timeout=60
        )
        return done, log.read_text().splitlines() if log.exists() else []

    return run


def test_pytorch_comes_from_the_index_that_is_named_and_first(install):
    done, calls = install("--index", "https://mirror.example/whl")
    assert done.returncode == 0, done.stderr
    first, second = calls
    assert "--index-url https://mirror.example/whl torch>=" in first and "torchvision>=" in first
    assert "--index-url" not in second and second.endswith("-e .[lite]")


def test_cpu_is_pytorchs_own_index(install):
    done, calls = install("--cpu")
    assert done.returncode == 0 and "--index-url https://download.pytorch.org/whl/cpu torch" in calls[0]


def test_without_an_index_pip_chooses(install):
    done, calls = install()
    assert done.returncode == 0 and len(calls) == 1 and "index" not in calls[0]


@pytest.mark.parametrize("words", [("--gpu", "bad"), ("--index",), ("env", "bad")])
def test_what_it_does_not_know_is_said_in_one_line(words):
    settings = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run([INSTALL, *words], capture_output=True, text=True, env=settings, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "expected" in done.stderr
