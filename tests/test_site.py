"""The pages that are made from the code hold all of it, and the navigation of the site holds every page."""

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

import foveate
from foveate.cli import app
from foveate.recipes import RECIPES
from foveate.train.recipe import Augment, Loss, Mix, Optim, Recipe, Schedule
from foveate.zoo import FAMILIES
from scripts.reference import api, commands, fields, tree

ROOT = Path(__file__).parents[1]
NAV = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
# pages of zensical.toml that may come later; lay() leaves out what is not there
LATER: set[str] = set()


def sections(page):
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^##? |\Z)", page, re.S | re.M))


def options(command, name="foveate"):
    """(command, option or argument) of the whole program."""
    for parameter in command.params:
        for word in (*parameter.opts, *parameter.secondary_opts) if parameter.param_type_name == "option" else ():
            yield name, word
        if parameter.param_type_name == "argument":
            yield name, parameter.metavar or parameter.name.upper()
    for other, inner in getattr(command, "commands", {}).items():
        yield name, other
        yield from options(inner, f"{name} {other}")


def test_every_command_and_every_option_of_the_program_stands_in_the_reference():
    told = sections(commands.page())
    asked = list(options(typer.main.get_command(app)))
    assert len(asked) > 300
    hidden = [
        (name, word) for name, word in asked if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told[name])
    ]
    assert not hidden


def test_every_public_name_stands_in_the_reference_with_its_words():
    page = api.page()
    for name in foveate.__all__:
        value = getattr(foveate, name)
        if name != "__version__":
            assert re.search(rf"^## fv\.{name}(\(\))?$", page, re.M), name
            assert api.escaped((value.__doc__ or "").strip().split("\n")[0]) in page, name
    assert "### fv.Classifier.predict()" in page and "## Exported" in page


def test_what_a_docstring_says_of_parameters_becomes_a_list():
    def call(a, bb, c_d):
        """What it does: this.

        a: one thing, b: not a parameter. bb, c_d: two more.
        Returns three. Raises ValueError.
            call(1, 2, 3)
        """

    told = api.text_of(call)
    assert "- `a`: one thing, b: not a parameter.\n- `bb`, `c_d`: two more." in told
    assert "\nReturns three.\n" in told and "\nRaises ValueError." in told and "What it does: this." in told


def test_every_recipe_and_every_field_stands_in_the_reference():
    page = fields.recipes()
    assert all(f"## {name}\n" in page for name in RECIPES)
    named = {f for record in (Recipe, Augment, Loss, Mix, Optim, Schedule) for f in record.__dataclass_fields__}
    assert not {name for name in named if f"| `{name}` |" not in page}
    assert "| `lr_batch` | `Annotated[int, Field(ge=0, le=1000000)]` | `0` | the batch that lr is for" in page


def test_every_family_and_every_field_of_its_config_stands_in_the_reference():
    told = sections(fields.configs())
    for name, family in FAMILIES.items():
        assert not {f for f in family.config.__dataclass_fields__ if f"| `{f}` |" not in told[name]}


def test_a_comment_above_a_field_is_that_of_the_field():
    text = fields.comments(FAMILIES["resnet"].config)
    assert text["block"] == "3x3, 3x3; or 1x1, 3x3, 1x1" and "paper and Caffe" in text["stride_on"]


def test_the_navigation_names_every_page_once_and_no_other():
    named = list(tree.listed(NAV))
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")} | set(tree.MADE)
    assert len(named) == len(set(named))
    assert set(named) - there <= LATER
    assert not there - set(named), "name them in zensical.toml"


def test_what_is_missing_is_left_out_and_what_is_forgotten_comes_last():
    nav = [{"A": ["a.md", "b.md"]}, {"B": ["c.md"]}]
    assert tree.complete(nav, {"a.md", "d.md"}) == ([{"A": ["a.md"]}, {"More": ["d.md"]}], ["b.md", "c.md"], ["d.md"])


def test_what_is_written_is_the_same_toml(tmp_path):
    value = {"nav": [{"A b": ["a.md", {"C": "d.md"}]}], "on": True, "n": 3}
    assert tomllib.loads(f"x = {tree.toml(value)}")["x"] == value


def test_what_is_laid_out_is_docs_with_the_made_pages_and_links_to_them(tmp_path):
    missing, _ = tree.lay(tmp_path)
    assert set(missing) <= LATER
    overview = (tmp_path / "docs" / tree.OVERVIEW).read_text("utf-8")
    for name in tree.MADE:
        assert (tmp_path / "docs" / name).stat().st_size > 5000 and f"]({Path(name).name})" in overview
    config = tomllib.loads((tmp_path / "zensical.toml").read_text("utf-8"))["project"]
    assert config["site_name"] == "foveate" and config["theme"]["font"] is False
    assert not set(tree.listed(config["nav"])) & set(missing)


LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.relative_to(ROOT / "docs").as_posix()
)
def test_links_within_the_pages_lead_somewhere(page):
    """Without zensical, which sees anchors too: scripts/site in CI."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S)
    for target in (a or b for a, b in LINK.findall(text)):
        path = target.partition("#")[0]
        if path and "://" not in path:
            made = (page.parent / path).resolve().relative_to(ROOT / "docs").as_posix() in tree.MADE
            assert made or (page.parent / path).exists(), target
