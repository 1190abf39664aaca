"""Worker processes: replaced when killed, stopped with everything, heard when they give up."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from foveate.errors import ConfigError, DataError, FoveateError
from foveate.runs.workers import Workers, is_orphan

LOOKS = 600  # of 0.2 s: what a test waits for has come long before


def count_up(folder, parent, until):
    """Leaves one file a second life at most: the first process of a number kills itself."""
    assert not is_orphan(parent) and is_orphan(parent + 1)
    first = Path(folder) / "died"
    if until == 0 and not first.exists():
        first.touch()
        print("begun", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(folder) / f"done-{os.getpid()}").touch()
    return 0


def refuse(folder, parent):
    print("reading pictures", flush=True)
    raise DataError("two lines\nof a reason")


def deaf(folder, parent):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (Path(folder) / "deaf").touch()
    time.sleep(300)
    return 0


def patient(folder, parent):
    signal.signal(signal.SIGTERM, lambda *_: (Path(folder) / "saved").touch() or sys.exit(75))
    (Path(folder) / "ready").touch()
    time.sleep(300)
    return 0


def waited(found):
    """finished(): true once found() is, and a failure long after it should have been."""
    looks = []

    def finished():
        looks.append(1)
        assert len(looks) < LOOKS
        return found()

    return finished


def test_one_that_is_killed_is_heard_of_and_replaced(tmp_path):
    died = []
    workers = Workers(count_up, tmp_path, 2, 0, on_death=lambda *given: died.append(given))
    workers.run(waited(lambda: False))
    assert [killer for _, killer in died] == [signal.SIGKILL]
    assert workers.log(died[0][0]).read_text() == "begun\n"
    assert len(list(tmp_path.glob("done-*"))) == 2 and not workers.processes


def test_no_use_in_another_ends_all(tmp_path):
    def died(number, killer):
        raise ConfigError("enough")

    workers = Workers(count_up, tmp_path, 1, 0, on_death=died)
    with pytest.raises(ConfigError, match="enough"):
        workers.run(waited(lambda: False))
    assert not workers.processes


def test_the_reason_of_one_that_gives_up_is_told_and_its_code_kept(tmp_path):
    workers = Workers(refuse, tmp_path, 1, on_death=lambda *_: None)
    with pytest.raises(FoveateError, match="worker 0 ended: two lines of a reason") as caught:
        workers.run(waited(lambda: False))
    assert caught.value.exit_code == DataError.exit_code


def test_all_are_asked_to_stop_and_waited_for(tmp_path):
    workers = Workers(patient, tmp_path, 1, on_death=lambda *_: None, environment=lambda number: {"WHO": str(number)})
    process = workers.processes[0]
    workers.run(waited((tmp_path / "ready").exists))
    assert process.returncode == 75 and (tmp_path / "saved").exists()


def test_one_that_does_not_stop_in_time_is_killed(tmp_path):
    workers = Workers(deaf, tmp_path, 1, on_death=lambda *_: None, wait_s=0.2)
    process = workers.processes[0]
    workers.run(waited((tmp_path / "deaf").exists))
    assert process.returncode == -signal.SIGKILL
