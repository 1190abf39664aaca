"""The public names have exact types: a user's file passes mypy --strict, and mistakes in it are found."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import foveate
from foveate.deploy.classifier import Classifier

ROOT = Path(__file__).parents[1]
TYPES = """
import foveate as fv
reveal_type(fv.build(fv.variant("resnet18")))
reveal_type(fv.load("x").predict("a.jpg"))
reveal_type(fv.load("x").predict(["a.jpg"]))
reveal_type(fv.cost(fv.variant("resnet18")).macs)
reveal_type(fv.list_models())
reveal_type(fv.fit("x").folder)
reveal_type(fv.train("x", "resnet18"))
fv.fit("x", max_latency="5ms")
fv.build("resnet18")
fv.load("x").predict(5)
"""


STRICT = """
[[tool.mypy.overrides]]
module = ["tests.user_code", "wrong"]
disallow_untyped_calls = true
disallow_untyped_defs = true
disallow_incomplete_defs = true
disallow_any_generics = true
disallow_subclassing_any = true
warn_return_any = true
enable_error_code = [CODES]
"""


def mypy(tmp_path, *files):
    """What mypy --strict says of some files. The settings of all other modules are those of scripts/check, whose cache
    then serves here: without it torch is read anew, a minute.
    """
    _, mark, rest = (ROOT / "pyproject.toml").read_text("utf-8").partition("[tool.mypy]\n")  # it stands last
    ours = f"{mark}{rest}"
    relaxed = tomllib.loads(ours)["tool"]["mypy"]["overrides"][0]
    codes = ", ".join(f'"{code}"' for code in relaxed["disable_error_code"])
    settings = tmp_path / "mypy.toml"
    settings.write_text(f"{ours}{STRICT.replace('CODES', codes)}")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=280, cwd=ROOT)
    return done.stdout + done.stderr


def test_a_users_file_passes_mypy_strict_and_mistakes_do_not(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(TYPES)
    said = mypy(tmp_path, ROOT / "tests" / "user_code.py", wrong)
    assert "user_code.py" not in said
    revealed = [line.split('"')[1] for line in said.splitlines() if "Revealed type" in line]
    assert revealed == [
        "foveate.zoo.family.Network",
        "list[tuple[str, float]]",
        "list[list[tuple[str, float]]]",
        "int",
        "list[str]",
        "pathlib.Path",
        "foveate.runs.run.Run",
    ]
    errors = {int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line}
    assert errors == {10, 11, 12}


def test_the_package_says_that_it_is_typed():
    assert (Path(foveate.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", sorted(set(foveate.__all__) - {"__version__"}))
def test_a_public_name_says_what_it_is(name):
    assert len((getattr(foveate, name).__doc__ or "").split()) >= 5


def test_reprs_are_short():
    config = foveate.replace(foveate.variant("resnet20_cifar"), num_classes=3)
    assert len(repr(foveate.cost(config))) < 200
    from foveate.data.preprocess import Preprocess
    from foveate.train.artefact import ModelCard

    card = ModelCard(config, ("a", "b", "c"), Preprocess(), {"model": "resnet20_cifar"})
    assert repr(Classifier(foveate.build(config), card)) == "<Classifier resnet20_cifar, 3 classes, 224 px>"
