"""README.md and CONTRIBUTING.md say what is true: the Python example runs, the commands parse, the files exist."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands():
    """Those of the README and of the pages."""
    pages = [
        README,
        *(
            page.read_text(encoding="utf-8")
            for page in sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[!d]*/*.md")])
        ),
    ]
    found = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page, re.S)]
    lines = [line.split("#")[0].strip() for block in found for line in block.splitlines()]
    return [line for line in lines if line.startswith("foveate ")]


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    assert "time_s=60" in example
    exec(example.replace("time_s=60", "time_s=1"), {})  # one epoch is enough to see that it runs
    assert re.match(r"[\d,]+ multiply-adds\n0\.\d+", capsys.readouterr().out)


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line):
    import typer.main

    from foveate.cli import app

    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    context = command.make_context("foveate", list(words), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        _, command, words = command.resolve_command(context, words)
        context = command.make_context(command.name, list(words), parent=context)
    assert not context.args


def test_five_commands_are_shown():
    assert len([line for line in blocks("sh")[1].splitlines() if line.startswith("foveate ")]) == 5


def test_the_changes_of_the_train_examples_fit_their_recipes():
    from foveate.config import override
    from foveate.recipes import RECIPES
    from foveate.train.check import checked
    from foveate.zoo import variant

    lines = [shlex.split(line) for line in commands() if line.startswith("foveate train") and "--model" in line]
    assert len(lines) >= 3
    for words in lines:
        name = words[words.index("--recipe") + 1] if "--recipe" in words else "baseline"
        changes = [w for w in words if "=" in w]
        checked(override(RECIPES[name], [c for c in changes if not c.startswith(("model.", "preprocess."))]))
        variant(words[words.index("--model") + 1])


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README):
        target = target[0] or target[1]
        assert (ROOT / target).exists(), target


def test_scripts_exist_and_can_be_run():
    for name in ("demo", "test", "check", "install"):
        assert (ROOT / "scripts" / name).stat().st_mode & 0o111
    assert (ROOT / ".ci" / "run").exists()


def test_the_counts_in_the_text_are_those_of_the_zoo():
    from foveate.zoo import FAMILIES, list_models

    models, families = re.search(r"(\d+) models of (\d+) families", README).groups()
    assert (int(models), int(families)) == (len(list_models()), len(FAMILIES))


def test_the_page_of_training_names_every_field_and_every_entry():
    from foveate.data.policies import POLICIES
    from foveate.train.initialisers import INITS
    from foveate.train.losses import LOSSES
    from foveate.train.optimizers import OPTIMIZERS
    from foveate.train.recipe import Augment, Loss, Mix, Optim, Schedule
    from foveate.train.schedules import SCHEDULES

    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    plain = {"name", "kind", "momentum", "nesterov", "beta2", "weight_decay", "lr", "own", "none"}  # of every trainer
    fields = [f for record in (Augment, Loss, Mix, Optim, Schedule) for f in record.__dataclass_fields__]
    names = {*fields, *POLICIES, *INITS, *LOSSES, *OPTIMIZERS, *SCHEDULES} - plain
    assert not {name for name in names if not re.search(rf"\b{name}\b", page)}
