"""The public names have exact types: a user's file passes mypy --strict, and mistakes in it are found."""

import subprocess
import sys
from pathlib import Path

import pytest

import foveate
from foveate.deploy.classifier import Classifier

HERE = Path(__file__).parent
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


def mypy(tmp_path, *files):
    settings = tmp_path / "mypy.ini"  # a user's own, with our package as it is installed
    settings.write_text("[mypy]\nstrict = true\nignore_missing_imports = true\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=280, cwd=HERE.parent)
    return done.stdout + done.stderr


def test_a_users_file_passes_mypy_strict_and_mistakes_do_not(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(TYPES)
    said = mypy(tmp_path, HERE / "user_code.py", wrong)
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
    errors = [line for line in said.splitlines() if ": error:" in line]
    assert len(errors) == 3 and all(
        f"wrong.py:{line}:" in text for line, text in zip((10, 11, 12), errors, strict=True)
    )


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
