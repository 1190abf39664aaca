"""foveate new, foveate.toml, the bare command, --plugin, completion, and predict's table and folders."""

import csv
import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.cli.predict import folder_name
from foveate.cli.project import TEMPLATE
from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import FoveateError
from foveate.files import write_folder
from foveate.train.artefact import ModelCard, model_files
from foveate.zoo import build, variant


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """A command in an empty folder, in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    net = build(replace(variant("resnet20_cifar"), num_classes=2)).eval()
    card = ModelCard(net.config, ("a/../b", "emu"), Preprocess(resolution=16, resize=16), {"model": "resnet20_cifar"})
    write_folder(tmp_path / "model", model_files(card, net.state_dict()))
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for i, place in enumerate(("one.png", "deep/one.png", "two.png")):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / place)
    return "model"


def test_a_new_project_is_toml_and_is_never_overwritten(run, tmp_path):
    code, out, _ = run("new", "flowers", "--data", 'odd "name"')
    assert code == 0 and "cd flowers; foveate fit" in out
    found = tomllib.loads((tmp_path / "flowers" / "foveate.toml").read_text("utf-8"))
    assert found == {"data": 'odd "name"', "seed": 0, "weights": "auto", "budget": {"time": "10m"}}
    code, _, err = run("new", "flowers")
    assert (code, err.count("\n")) == (2, 1) and "there is one already" in err


def test_all_that_the_template_proposes_is_a_setting(run, tmp_path, monkeypatch):
    shown = TEMPLATE.format(data='"digits"')
    lines = [line[2:] if line.startswith(("# [", "# m", "# r", "# d", "# e")) else line for line in shown.split("\n")]
    (tmp_path / "foveate.toml").write_text("\n".join(line for line in lines if not line.startswith("# ")))
    assert tomllib.loads((tmp_path / "foveate.toml").read_text("utf-8"))["train"] == {
        "recipe": "baseline",
        "epochs": 20,
    }
    told = {}
    monkeypatch.setattr(
        "foveate.runs.complete.train",
        lambda *a, **k: told.update(k, words=a) or (_ for _ in ()).throw(FoveateError("done")),
    )
    code, _, err = run("train", "--model", "resnet20_cifar", "optim.lr=0.01", "--seed", "3")
    assert told["words"] == ("digits", "resnet20_cifar") and code == 1, err
    assert (told["seed"], told["recipe"], told["weights"]) == (3, "baseline", "auto")
    assert told["overrides"] == ["optim.lr=0.01", "epochs=20"]
    assert "foveate.toml: data = digits" in err


def test_the_file_is_left_out_where_that_is_asked_for(run, tmp_path, monkeypatch):
    (tmp_path / "foveate.toml").write_text('data = "digits"\n')
    assert "DATA is missing" in run("--no-project", "fit")[2]
    monkeypatch.setenv("FOVEATE_PROJECT", "")
    assert "DATA is missing" in run("fit")[2]
    monkeypatch.setenv("FOVEATE_PROJECT", "nowhere.toml")
    assert "nowhere.toml: no such file" in run("fit")[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('wieghts = "auto"', "did you mean weights"),
        ("[budegt]\n", "did you mean budget"),
        ('[fit]\nmetrik = "f1"', "did you mean metric"),
        ('[search]\nspace = "my_space.py"', "names no code"),
        ("data = 1979-05-27", "expected a text"),
        ("data = ", "not TOML"),
        ("seed = -1", "--seed"),
    ],
)
def test_a_wrong_file_is_one_line(run, tmp_path, text, said):
    (tmp_path / "foveate.toml").write_text(text)
    code, out, err = run("fit", "digits")
    assert (code, out) == (2, "") and said in err.splitlines()[-1] and "Traceback" not in err


def test_the_bare_command_shows_three_things_to_do(run, tmp_path):
    assert run()[0] == 0 and "fit digits" in run()[1]
    (tmp_path / "foveate.toml").write_text('data = "digits"\n')
    assert "as foveate.toml says" in run()[1]
    (tmp_path / "runs" / "x-1" / "best").mkdir(parents=True)
    code, out, _ = run()
    assert code == 0 and out.count("\n") == 5 and "foveate predict runs/x-1 PICTURE" in out


def test_help_names_no_type_of_python(run):
    for name in ("fit", "predict", "search", "profile"):
        out = run(name, "--help")[1]
        assert not [word for word in ("<str>", "<int", "<list", "<float", "INTEGER") if word in out]


def test_help_is_as_wide_as_the_terminal(run, monkeypatch):
    widths = []
    for columns in (60, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        widths.append(max(map(len, run("fit", "--help")[1].splitlines())))
    assert widths[0] <= 60 and 120 < widths[1] <= 140


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_that_of_the_users_shell(run, monkeypatch, shell):
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    code, out, _ = run("--show-completion")
    assert code == 0 and "_FOVEATE_COMPLETE" in out
    monkeypatch.setenv("SHELL", "/bin/odd")
    code, _, err = run("--show-completion")
    assert (code, err.count("\n")) == (2, 1) and "expected one of bash" in err


def test_a_shell_is_told_commands_and_options():
    def ask(*words):
        environment = {"_FOVEATE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": "1"}
        environment["COMP_CWORD"] = str(len(words) - 1)
        done = subprocess.run(
            [sys.executable, "-m", "foveate"],
            env={**environment, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.split()

    assert ask("foveate", "pre") == ["predict"]
    assert "--max-latency" in ask("foveate", "fit", "--max-l")


def test_predict_writes_a_table(run, model, tmp_path):
    (tmp_path / "pictures" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    code, out, _ = run("predict", model, "pictures", "--csv", "found.csv", "--json")
    with open(tmp_path / "found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = json.loads(out)["predictions"]
    assert code == 3 and [r["path"] for r in rows] == [t["path"] for t in told]
    for found, expected in zip(rows, told, strict=True):
        assert found["label"] == expected.get("label", "") and found["error"] == expected.get("error", "")
        assert not expected.get("label") or float(found["probability"]) == pytest.approx(
            expected["probability"], abs=1e-6
        )
    assert run("predict", model, "pictures", "--csv", "found.txt")[0] == 2


def test_predict_sorts_copies_and_overwrites_none(run, model, tmp_path):
    first = run("predict", model, "pictures", "--sort-into", "sorted", "--json")
    copies = [p["copy"] for p in json.loads(first[1])["predictions"]]
    again = [
        p["copy"]
        for p in json.loads(run("predict", model, "pictures", "--sort-into", "sorted", "--json")[1])["predictions"]
    ]
    assert len({*copies, *again}) == 6
    assert {p.parent.parent for p in (tmp_path / "sorted").rglob("*.png")} == {tmp_path / "sorted"}
    held = sorted(p.read_bytes() for p in (tmp_path / "sorted").rglob("*.png"))
    assert held == sorted(2 * [p.read_bytes() for p in (tmp_path / "pictures").rglob("*.png")])


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("a/../b", "a_.._b"),
        ("..", "_"),
        ("", "_"),
        ("CON", "_CON"),
        ("x\x1b\u202e", "x__"),
        ("日本", "日本"),
    ],
)
def test_a_label_becomes_a_name_that_leads_nowhere_else(label, name):
    assert folder_name(label) == name


def test_a_plugin_that_is_not_there_is_one_line(run):
    code, _, err = run("--plugin", "no_such_pkg", "models")
    assert (code, err.count("\n")) == (2, 1) and "foveate_plugin(add)" in err
