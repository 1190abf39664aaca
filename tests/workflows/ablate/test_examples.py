"""The examples that are printed: their settings exist, and every factor of an ablation changes something."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from foveate.cli import COMMANDS
from foveate.config import override
from foveate.errors import ConfigError
from foveate.recipes import find_recipe
from foveate.runs.plan import check_rooms, room_of
from foveate.workflows.ablate.design import Request, check_texts, combinations
from foveate.workflows.ablate.factors import parse_factors
from foveate.zoo import variant

DOCS = Path(__file__).parents[3] / "docs"
BASES = ("baseline", "cifar_standard", "small_pictures")  # what pictures without published weights call for


def said(command):
    """Command lines of one command in the helps and on the page about training."""
    texts = [*(module.EXAMPLE for module in COMMANDS.values()), (DOCS / "training.md").read_text("utf-8")]
    lines = [m[0] for text in texts for m in re.finditer(rf"foveate {command} [^`#\n]*--model [^`#\n]*", text)]
    return [line for line in lines if "..." not in line and "NAME" not in line]


def words_of(line):
    words = shlex.split(line)
    options = {a: b for a, b in itertools.pairwise(words) if a.startswith("--")}
    return options, [w for w in words if "=" in w and not w.startswith("--") and w not in options.values()]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("line", said("ablate"))
def test_every_factor_of_a_printed_ablation_changes_its_base(line, base):
    options, changes = words_of(line)
    kind = "cumulative" if "--cumulative" in line else "one-in"
    factors = parse_factors(options["--factors"])
    check_texts(Request("photos", options["--model"], base, tuple(changes), factors, kind), combinations(factors, kind))


@pytest.mark.parametrize("line", said("train"))
def test_the_settings_of_a_printed_training_change_something(line):
    options, changes = words_of(line)
    config, recipe = variant(options["--model"]), find_recipe(options.get("--recipe", "baseline"))
    for text in changes:
        room, change = room_of(text)
        check_rooms(config, [change] if room == "recipe" else [])
        record = config if room == "model" else recipe
        assert override(record, [change]) != record


def test_there_are_examples():
    assert len(said("ablate")) >= 2 and len(said("train")) >= 3


@pytest.mark.parametrize(
    ("model", "base", "factors", "says"),
    [
        ("mobilenet_v2", None, "model.stem=32,mixup", "model.stem=32 changes nothing in mobilenet_v2"),
        ("resnet18", None, "mixup,layers.act=relu", "layers.act=relu changes nothing in resnet18"),
        ("resnet18", "baseline", "cosine,mixup", "cosine changes nothing in baseline"),
    ],
)
def test_a_factor_that_changes_nothing_is_refused_before_the_data_is_read(model, base, factors, says):
    request = Request("no such folder", model, base, (), parse_factors(factors))
    with pytest.raises(ConfigError, match=re.escape(says)):
        check_texts(request, combinations(request.factors, "one-in"))
