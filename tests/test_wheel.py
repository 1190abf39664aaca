"""What `pip install` of a release gives: every file of the package, the command, one version, working templates."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import foveate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built as `pip wheel` builds it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_it_holds_every_file_of_the_package(wheel):
    files = [path.relative_to(ROOT) for path in (ROOT / "foveate").rglob("*") if path.is_file()]
    wanted = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"foveate/py.typed", "foveate/zoo/counts.json", "foveate/report/templates/report.css"} <= wanted
    assert sum(name.endswith(".j2") for name in wanted) >= 3
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_it_says_the_version_of_the_package_and_has_the_command(wheel):
    assert wheel.name == f"foveate-{foveate.__version__}-py3-none-any.whl"
    files = zipfile.ZipFile(wheel)
    info = f"foveate-{foveate.__version__}.dist-info"
    assert f"\nVersion: {foveate.__version__}\n" in files.read(f"{info}/METADATA").decode()
    assert "foveate = foveate.cli:main" in files.read(f"{info}/entry_points.txt").decode()


def test_it_works_from_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import foveate\n"
        "assert foveate.__file__.startswith(sys.argv[1]), foveate.__file__\n"
        "from foveate.report.page import write_report; write_report(sys.argv[1], {})\n"
        "from foveate.cli import main; sys.exit(main(['--version']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, f"foveate {foveate.__version__}\n"), done.stderr
