"""What `pip install` of a release gives: every file of the package, the command, one version, working templates."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import foveate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built as `pip wheel` builds it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    return built(ROOT, "wheel", folder, "*.whl")


def built(source, kind, folder, pattern):
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The unpacked source archive of this checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built(ROOT, "sdist", folder, "*.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"foveate-{foveate.__version__}"


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


def test_it_predicts_from_where_it_is_unpacked(wheel, tmp_path):
    """In a process that sees the wheel and not the checkout: built-in data, training, export, prediction."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import foveate as fv\n"
        "changes = ['epochs=1', 'batch=256', 'preprocess.resolution=16']\n"
        "run = fv.train('digits', 'resnet20_cifar', overrides=changes, weights='none')\n"
        "from foveate.data.index import open_data\n"
        "assert len(open_data('clothes').classes) == 8\n"
        "model = fv.load(run.folder / 'best' / 'model.onnx')\n"
        "import numpy\n"
        "assert len(model.predict(numpy.zeros((8, 8, 3), 'uint8'), top=3)) == 3\n"
        "assert (run.folder / 'report.html').stat().st_size > 10_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_source_archive_holds_what_a_build_and_a_reader_need(source):
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "foveate/py.typed", "docs/start.md"):
        assert (source / name).is_file(), name
    for name in ("tests/test_wheel.py", "scripts/install", "zensical.toml", "requirements.lock"):
        assert (source / name).is_file(), name
    assert not [p for p in source.rglob("*") if p.suffix in {".onnx", ".safetensors", ".pyc"}]


def test_a_wheel_made_from_the_source_archive_is_the_same(source, wheel, tmp_path):
    again = zipfile.ZipFile(built(source, "wheel", tmp_path, "*.whl"))
    first = zipfile.ZipFile(wheel)
    assert {i.filename: i.CRC for i in again.infolist()} == {i.filename: i.CRC for i in first.infolist()}


def test_what_says_a_version_says_the_same_one():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)[1]
    assert cited == foveate.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dynamic"] == ["version"] and "version" not in project
