"""The pages for developers hold: the picture is that of the code, files that they name are there, checkers see all."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "development").glob("*.md"))
PYTHON = [p for p in (ROOT / "scripts").iterdir() if p.is_file() and re.match(rb"#!.*python", p.read_bytes()[:80])]


def test_the_picture_of_the_floors_is_that_of_the_code():
    command = [sys.executable, ROOT / "scripts" / "draw_floors", "--print"]
    drawn = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode("utf-8")
    assert drawn == (ROOT / "docs" / "development" / "floors.svg").read_text("utf-8"), "run scripts/draw_floors"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.stem)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text("utf-8")
    named = set(
        re.findall(r"\b((?:foveate|tests|scripts|docs)/[\w./-]*\w)", re.sub(r"```.*?```", "", text, flags=re.S))
    )
    named |= {f"{page.parent.relative_to(ROOT)}/{name}" for name in re.findall(r"\]\(([\w./-]+)\)", text)}
    assert not {name for name in named if "NAME" not in name and not (ROOT / name).exists()}


def test_every_script_in_python_is_checked():
    assert PYTHON
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    scripts = {f"scripts/{path.name}" for path in PYTHON}
    assert set(tool["ruff"]["extend-include"]) == scripts
    folders = {"scripts/benchmarks", "scripts/reference", "scripts/releasing"}
    assert set(tool["mypy"]["files"]) == scripts | folders | {"foveate", "tests"}
    loose = {f"scripts/{name}" for o in tool["mypy"]["overrides"] for name in o["module"] if "." not in name}
    assert loose - {"scripts/foveate"} == scripts
