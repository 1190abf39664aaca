"""Every table: its description is whole, its arms build, and its contrasts speak of its arms."""

import json

import pytest

from foveate.cli import main
from foveate.config import replace
from foveate.train.check import checked
from foveate.workflows.papers.arms import common_changes, filled, parts
from foveate.workflows.papers.measures import MEASURES
from foveate.workflows.papers.table import Trainings
from foveate.workflows.papers.tables import TABLES
from foveate.zoo import build
from foveate.zoo.meta import shapes_only

PAGES = {"000", "001", "002", "003", "004"}
COMPARED = [name for name, table in TABLES.items() if isinstance(table.study, Trainings)]


def test_there_are_forty_tables_and_every_page_has_some():
    assert len(TABLES) >= 40
    assert {page for t in TABLES.values() for page in t.seed_page.split(", ")} == PAGES
    assert all(name == table.name for name, table in TABLES.items())
    assert list(TABLES) == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_what_it_claims_from_where_and_at_which_scale(name):
    table = TABLES[name]
    assert table.claim.endswith(".") and table.paper and table.scale and table.minutes > 0
    assert table.contrasts and any(c.main for c in table.contrasts)
    assert len({c.label for c in table.contrasts}) == len(table.contrasts)
    for contrast in table.contrasts:
        p = contrast.published
        assert p.setting and p.source and p.unit
        assert p.marked in ("read", "memory", "expected")
        assert p.value is None or contrast.claim == "same" or (p.value > 0) == (contrast.claim == "more") or not p.value
        if contrast.claim == "same":
            assert contrast.margin > 0


@pytest.mark.parametrize("name", COMPARED)
def test_the_arms_of_a_table_build_and_its_recipes_are_allowed(name):
    study = TABLES[name].study
    labels = [arm.label for arm in study.arms]
    assert len(set(labels)) == len(labels) >= 2
    assert study.measure in MEASURES
    for contrast in TABLES[name].contrasts:
        assert {*contrast.plus, *contrast.minus} <= set(labels)
        assert len(contrast.plus) == len(contrast.minus) > 0
        assert contrast.published.unit == MEASURES[study.measure].unit
    seen = set()
    for side, pictures in ((8, 1_400), (32, 10_000)):
        for arm in study.arms:
            common = common_changes(study, pictures, side, mirrored=False, epochs=4)
            config, recipe = parts(study, arm, 4, common)
            checked(recipe)
            assert recipe.epochs == 4 and not recipe.augment.flip
            with shapes_only():
                build(replace(config, num_classes=10))
            seen.add((side, config, recipe))
    assert len(seen) == 2 * len(study.arms)  # no two arms are the same


def test_shares_of_the_epochs_and_the_teacher_are_written_out():
    texts = ("schedule.warmup=@0.1", "schedule.kind=step(every=@0.5)", "loss.teacher={teacher}", "optim.lr=0.1")
    written = filled(texts, 30, "runs/teacher-1/best")
    expected = ("schedule.warmup=3", "schedule.kind=step(every=15)", "loss.teacher=runs/teacher-1/best", texts[3])
    assert written == expected


def test_the_list_for_scripts_has_a_line_a_table(capfd):
    assert main(["reproduce", "--list", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert [one["name"] for one in listed] == list(TABLES)
    for one in listed:
        assert set(one) == {"name", "seed_page", "paper", "claim", "published", "budget"}
        assert {"value", "unit", "setting", "source", "marked"} <= set(one["published"][0])
    assert main(["reproduce", "--list"]) == 0
    assert f"{len(TABLES)} tables" in capfd.readouterr().out
