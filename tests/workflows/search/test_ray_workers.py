"""Search on pictures with its workers on a real Ray cluster of this machine, one of which is killed."""

import json
import os
import signal
import threading
import time

import pytest
from small_space import SPACE, search_only

pytest.importorskip("ray", reason="Ray is not here: pip install ray")


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_two_workers_on_ray_of_which_one_is_killed_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "tiny.py").write_text(SPACE)
    killed = []

    def kill_one():
        folder = tmp_path / "runs" / "search-digits-1"
        while not killed:
            time.sleep(0.05)
            for pid in owners(folder / "study.db"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                break

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    done = search_only(tmp_path / "tiny.py", tmp_path / "runs", workers=2, trials=8, ray="local")
    thread.join()
    assert killed
    assert 8 <= len(done) <= 10 and len({one.net for one in done}) == len(done)
    assert not [one for one in done if one.values is None]


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
