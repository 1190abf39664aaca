"""Auxiliary heads weigh what their papers say, unless the recipe says otherwise."""

import pytest
from torch import nn

from foveate.config import from_dict, replace, to_dict
from foveate.cost.plan import plan_of
from foveate.train.recipe import Loss, Recipe
from foveate.train.state import State, aux_weight
from foveate.zoo import FAMILIES, build

PUBLISHED = {"googlenet": 0.3, "inception": 0.4, "nasnet": 0.4}


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_familys_weight_is_the_published_one(family):
    model = build(FAMILIES[family].tiny)
    assert aux_weight(model, Loss()) == PUBLISHED[family]
    assert aux_weight(model, Loss(aux=0.1)) == 0.1


def test_every_family_with_auxiliary_heads_says_their_weight():
    assert {name for name, family in FAMILIES.items() if family.auxiliary} == set(PUBLISHED)


def test_other_networks_take_the_first_papers():
    assert aux_weight(nn.Linear(2, 2), Loss()) == 0.3


def test_the_state_of_a_run_knows_it():
    family = FAMILIES["nasnet"]
    state = State(build(family.tiny), None, Recipe(), family.head, "cpu")
    assert state.aux_weight == 0.4 and state.network.aux
    off = State(build(family.tiny), None, replace(Recipe(), loss=Loss(aux=0.0)), family.head, "cpu")
    assert not off.network.aux


def test_recipes_of_earlier_runs_keep_their_word():
    old = to_dict(Recipe())
    assert old["loss"]["aux"] is None
    old["loss"]["aux"] = 0.3
    assert from_dict(Recipe, old, "recipe").loss.aux == 0.3
    assert plan_of(Recipe()).aux and not plan_of(replace(Recipe(), loss=Loss(aux=0.0))).aux
