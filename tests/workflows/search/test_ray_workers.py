"""Search on pictures with its workers on a real Ray cluster of this machine, one of which is killed."""

import json
import os
import signal
import threading
import time

import pytest
from small_space import SHORT, SPACE

from foveate.runs.plan import Budget
from foveate.workflows.search.run import search

pytest.importorskip("ray", reason="Ray is not here: pip install ray")


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_two_workers_on_ray_of_which_one_is_killed_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "tiny.py").write_text(SPACE)
    killed = []

    def kill_one():
        folder, deadline = tmp_path / "runs" / "search-digits-1", time.monotonic() + 300
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            for pid in owners(folder / "study.db"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    made = search(
        "digits",
        str(tmp_path / "tiny.py"),
        sampler="random",
        budget=Budget(time_s=1.0),
        trials=8,
        workers=2,
        ray="local",
        runs=tmp_path / "runs",
        **SHORT,
    )
    thread.join()
    assert killed
    trials = json.loads((made.folder.parent / "results.json").read_text())["trials"]
    assert 8 <= len(trials) <= 10 and len({t["net"] for t in trials}) == len(trials)
    assert not [t for t in trials if t["error"]]


def owners(study):
    """Processes of the trials that are running, once two trials are done."""
    import sqlite3

    if not study.exists():
        return []
    query = (
        "select value_json from trial_user_attributes where key = 'worker' and trial_id in"
        " (select trial_id from trials where state = 'RUNNING')"
        " and (select count(*) from trials where state = 'COMPLETE') >= 2"
    )
    try:
        with sqlite3.connect(study, timeout=5) as base:
            return [int(json.loads(text).split("|")[1]) for (text,) in base.execute(query)]
    except sqlite3.OperationalError:
        return []
