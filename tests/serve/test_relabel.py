"""Relabelling: decisions are in the file before they are answered, two deciders do not overwrite each other."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from browser import browser, missing
from serving import picture, served

from foveate.errors import DataError
from foveate.serve.decisions import Changed, Decisions, Row
from foveate.workflows.review.lists import read_decisions

OWN = {"X-Foveate": "1", "Content-Type": "application/json"}


def rows():
    return [Row(f"{i}.png", "a", "b", "") for i in range(5)]


def test_what_is_decided_is_in_the_file_that_apply_reads(tmp_path):
    file = tmp_path / "decisions.csv"
    table = Decisions(rows(), file)
    table.decide("0.png", ("", ""), "relabel", "c")
    table.decide("1.png", ("", ""), "keep", "")
    table.decide("2.png", ("", ""), "drop", "")
    table.decide("2.png", ("drop", ""), "", "")  # taken back
    assert read_decisions(file) == {"0.png": ("relabel", "c"), "1.png": ("keep", "b")}
    again = Decisions(rows(), file)  # after a crash
    assert [r.decision for r in again.rows.values()] == ["relabel", "keep", "", "", ""]
    assert again.rows["0.png"].new_label == "c"


def test_two_deciders_do_not_overwrite_each_other(tmp_path):
    one, two = (Decisions(rows(), tmp_path / "decisions.csv") for _ in range(2))
    one.decide("0.png", ("", ""), "keep", "")
    with pytest.raises(Changed) as told:
        two.decide("0.png", ("", ""), "drop", "")
    assert told.value.row.decision == "keep"
    two.decide("1.png", ("", ""), "drop", "")
    assert read_decisions(tmp_path / "decisions.csv") == {"0.png": ("keep", "b"), "1.png": ("drop", "b")}
    for wrong in (("relabel", ""), ("keep", "c"), ("perhaps", "")):
        with pytest.raises(DataError):
            one.decide("3.png", ("", ""), *wrong)
    with pytest.raises(KeyError):
        one.decide("../x", ("", ""), "keep", "")


@pytest.fixture
def reviewed(tmp_path):
    """(data, folder) of a review as data review leaves it, and its pages on a server."""
    data, folder = tmp_path / "data", tmp_path / "review"
    folder.mkdir()
    names = []
    for i in range(24):
        label = ("ant", "bee", "cat")[i % 3]
        (data / label).mkdir(parents=True, exist_ok=True)
        (data / label / f"{i}.png").write_bytes(picture((10 * i, 200 - 8 * i, 90), (40 + i, 60)))
        names.append(f"{label}/{i}.png")
    found: dict = {"schema": "foveate.data.review/1", "classes": {"ant": 8, "bee": 8, "cat": 8}, "next_to_label": []}
    found["suspects"] = [{"path": n, "label": n[:3], "suggested": "cat", "score": 0.1} for n in names[:20]]
    found["outliers"] = [{"path": names[20], "label": "cat", "kind": "dark", "value": 1, "usual": 2}]
    (folder / "review.json").write_text(json.dumps(found))
    return data, folder


def pages(reviewed, tmp_path):
    data, folder = reviewed
    return served(tmp_path, data, "--out", folder, "--serve", "--port", "0", command="data review")


def decision(path, **changes):
    return json.dumps({"path": path, "was": "", "was_label": "", "decision": "keep", "new_label": "", **changes})


def test_routes_of_the_review(reviewed, tmp_path):
    with pages(reviewed, tmp_path) as server:
        table = json.loads(server.ask("GET", "/review/table")[2])
        assert len(table["rows"]) == 21 and table["classes"] == ["ant", "bee", "cat"] and table["can_train"]
        path = table["rows"][0]["path"]
        status, headers, body = server.ask("GET", f"/review/picture?path={path}")
        assert status == 200 and headers["content-type"] == "image/jpeg" and body[:2] == b"\xff\xd8"
        for other in ("../review/review.json", "/etc/passwd", "ant/999.png", ""):
            assert server.ask("GET", f"/review/picture?path={other}")[0] == 404
        assert server.ask("POST", "/review/decision", decision(path), OWN)[0] == 200
        status, _, body = server.ask("POST", "/review/decision", decision(path, decision="drop"), OWN)
        assert status == 409 and json.loads(body)["row"]["decision"] == "keep"
        assert server.ask("POST", "/review/decision", decision(path), {"Content-Type": "application/json"})[0] == 403
        assert server.ask("POST", "/review/train", "", {**OWN, "Origin": "https://evil.example"})[0] == 403
        assert server.ask("POST", "/review/decision", "[" * 10_000, OWN)[0] == 400
        assert server.ask("POST", "/review/decision", decision(path, more="x"), OWN)[0] == 400
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libtorch" not in loaded  # judging needs torch, and the process that listens has none


def training_server(reviewed, tmp_path):
    """Pages whose run is two commands: one that talks, one that fails with 3."""
    data, folder = reviewed
    code = "import time\nfor i in range(3): print('epoch', i, flush=True); time.sleep(.1)"
    commands = [[sys.executable, "-c", code], [sys.executable, "-c", "raise SystemExit(3)"]]
    launch = f"""
import json
from foveate.serve.relabel import serve_review
from foveate.serve.settings import Settings
from foveate.workflows.review.serving import work_of
work = work_of({str(data)!r}, {str(folder)!r}, commands={commands!r})
serve_review(work, Settings(port=0), announce=lambda url: print(json.dumps({{"url": url}}), flush=True))
"""
    return served(tmp_path, code=launch)


def test_training_runs_in_a_child_whose_lines_are_told(reviewed, tmp_path):
    from foveate.workflows.review.serving import training_commands

    data, folder = reviewed
    made = training_commands(str(data), folder, "runs", None)
    assert [c[3:5] for c in made] == [["data", "review"], ["fit", str(folder / "list.csv")]]
    with training_server(reviewed, tmp_path) as server:
        assert server.ask("POST", "/review/train", "", OWN)[0] == 202
        assert server.ask("POST", "/review/train", "", OWN)[0] == 409
        end = time.monotonic() + 20
        while (told := json.loads(server.ask("GET", "/review/train")[2]))["state"] == "running":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert told == {"state": "failed", "code": 3, "lines": ["epoch 0", "epoch 1", "epoch 2"]}
        assert server.stop() == 0


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_run_is_started_from_the_page_and_its_lines_are_shown(reviewed, tmp_path):
    with browser(tmp_path / "profile") as page, training_server(reviewed, tmp_path) as server:
        page.size(375)
        page.open(server.url)
        page.until("!document.getElementById('again').hidden")
        page.click("#train")
        page.until("document.getElementById('lines').textContent.includes('epoch 0')")
        page.until("document.getElementById('state').textContent === 'It ended with code 3.'")
        assert page.js("document.getElementById('lines').textContent") == "epoch 0\nepoch 1\nepoch 2"


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_twenty_pictures_by_keys_outlive_a_killed_server(reviewed, tmp_path):
    file = reviewed[1] / "decisions.csv"
    with browser(tmp_path / "profile") as page:
        page.size(1200)
        with pages(reviewed, tmp_path) as server:
            page.open(server.url)
            page.until("document.getElementById('count').textContent === '0 of 21 decided'")
            for i in range(20):
                page.key({5: "x", 7: "3"}.get(i, "123"[i % 3]))
            count = "document.getElementById('count').textContent"
            page.until(f"{count} === '20 of 21 decided'")
            page.key("u")
            page.until(f"{count} === '19 of 21 decided'")
            page.key("2")
            page.until(f"{count} === '20 of 21 decided'")
            before = read_decisions(file)
            assert len(before) == 20 and before["cat/5.png"][0] == "drop"
            assert before["bee/7.png"] == ("relabel", "cat") and before["bee/19.png"][0] == "keep"
            page.until("document.getElementById('shown').naturalWidth > 0")
            if folder := os.environ.get("FOVEATE_SHOTS"):
                for width in (375, 1200):
                    for dark in (False, True):
                        page.size(width, dark=dark)
                        page.shoot(Path(folder) / f"review-{width}-{'dark' if dark else 'light'}.png")
            assert page.js("document.documentElement.scrollWidth <= window.innerWidth")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        with pages(reviewed, tmp_path) as server:
            page.open(server.url)
            page.until("document.getElementById('count').textContent === '20 of 21 decided'")
            assert read_decisions(file) == before and page.told == []
