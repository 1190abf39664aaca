"""What a search folder may say: names of built-in spaces and files inside it; code and databases the caller names."""

import json
import sqlite3

import pytest

from foveate.cli import main
from foveate.errors import ConfigError
from foveate.runs.workers import Workers
from foveate.workflows.search.run import resume_search, search
from foveate.workflows.search.study import load_search, resume_command, trusted

EVIL = "from pathlib import Path\nPath({canary!r}).touch()\ndef space(): raise ValueError('ran')\n"
BUILT_IN = "mnasnet(resolution=8, num_classes=10)"


def design(folder, **facts):
    """A search folder with such a search.json."""
    folder.mkdir(exist_ok=True)
    about = {"data": "digits", "name": "digits", "fingerprint": "0" * 64, "space": BUILT_IN, **facts}
    (folder / "search.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def evil(tmp_path):
    path = tmp_path / "evil.py"
    path.write_text(EVIL.format(canary=str(tmp_path / "canary")))
    return path


def untouched(tmp_path):
    return not (tmp_path / "canary").exists()


@pytest.mark.parametrize("where", ["beside", "inside", "relative"])
def test_a_folder_names_no_code(where, evil, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "evil.py").write_text(evil.read_text())
    text = {"beside": str(evil), "inside": str(folder / "evil.py"), "relative": "run/evil.py"}[where]
    design(folder, space=text)
    assert main(["search", "--resume", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"name it again: foveate search --resume {folder} --space {text}" in said and said.count("\n") == 1
    with pytest.raises(ConfigError, match="Python code"):
        resume_search(folder)
    assert untouched(tmp_path)


def test_code_that_the_caller_names_again_counts(evil, tmp_path):
    folder = design(tmp_path / "run", space="elsewhere/evil.py")
    assert trusted(folder, str(evil)).space == str(evil)
    with pytest.raises(ConfigError, match=r"this search has elsewhere/evil\.py"):
        trusted(folder, str(tmp_path / "other.py"))
    with pytest.raises(ConfigError, match="leave --space out"):
        trusted(design(tmp_path / "plain"), str(evil))
    assert trusted(folder=tmp_path / "plain", space=BUILT_IN).space == BUILT_IN
    assert untouched(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{outside}",
        "sqlite:///{folder}/../mine.db",
        "sqlite:///{folder}/link.db",
        "sqlite:///{folder}/study.db?mode=rwc",
        "sqlite:///file:{outside}?uri=true",
        "sqlite://",
        "postgresql+psycopg://user:secret@192.0.2.1/db",
        "mysql://192.0.2.1/db",
        "journal:///{outside}",
    ],
)
def test_a_folder_names_no_database_outside_itself(url, tmp_path, capsys):
    folder, outside = tmp_path / "run", tmp_path / "mine.db"
    sqlite3.connect(outside).close()
    folder.mkdir()
    (folder / "link.db").symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    design(folder, storage=url.format(folder=folder, outside=outside))
    assert main(["search", "--resume", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "a folder may not say what is opened" in said and "--storage" in said and "secret" not in said
    assert sorted(tmp_path.rglob("*")) == sorted([*before, folder / "search.json"])
    assert outside.stat().st_size == 0


def test_the_study_of_a_folder_is_no_link_out_of_it(tmp_path):
    folder = design(tmp_path / "run")
    (folder / "study.db").symlink_to(tmp_path / "mine.db")
    with pytest.raises(ConfigError, match="outside the folder"):
        resume_search(folder)
    assert not (tmp_path / "mine.db").exists()


def test_a_database_inside_the_folder_or_named_again_counts(tmp_path):
    folder = tmp_path / "run"
    inside = f"sqlite:///{folder}/other.db"
    assert trusted(design(folder, storage=inside)).storage == inside
    design(folder, storage="postgresql+psycopg://host/db")
    assert trusted(folder, storage="postgresql+psycopg://u:p@host/db").storage == "postgresql+psycopg://u:p@host/db"
    with pytest.raises(ConfigError, match=r"study\.db; leave --storage out"):
        trusted(design(folder), storage="sqlite:///x.db")


def test_what_goes_on_is_said_with_all_that_must_be_named_again(tmp_path):
    plain = load_search(design(tmp_path / "a"))
    assert resume_command(tmp_path / "a", plain) == f"foveate search --resume {tmp_path / 'a'}"
    both = load_search(design(tmp_path / "b", space="my space.py", storage="postgresql://me:pw@h/db"))
    said = resume_command(tmp_path / "b", both)
    assert said.endswith("--space 'my space.py' --storage 'postgresql://***@h/db'")


def test_the_log_of_a_worker_is_written_through_no_link(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    folder = tmp_path / "run"
    (folder / "workers").mkdir(parents=True)
    (folder / "workers" / "0.log").symlink_to(target)
    with pytest.raises(OSError):
        Workers(search, folder, 1, on_death=lambda *_: None)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "workers").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="a link"):
        Workers(search, tmp_path / "linked", 1, on_death=lambda *_: None)
    assert target.read_text() == "mine"
