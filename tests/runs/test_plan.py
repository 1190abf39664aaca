"""A plan as recipe.json: its architecture is the record of a family, told by its tag."""

import json

import pytest

from foveate.config import from_dict, from_json, to_dict, to_json
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError
from foveate.recipes import RECIPES
from foveate.runs.plan import Plan
from foveate.zoo import FAMILIES, variant


def plan_of(architecture):
    return Plan("photos", "some net", architecture, RECIPES["baseline"], Preprocess())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_from_recipe_json(family):
    config = next(iter(FAMILIES[family].variants.values()))
    plan = plan_of(config)
    text = to_json(plan)
    again = from_json(Plan, text)
    assert again == plan and hash(again) == hash(plan) and type(again.architecture) is FAMILIES[family].config
    assert to_json(again) == text
    assert json.loads(text)["architecture"] == to_dict(config)
    assert plan_of(to_dict(config)) == plan


def test_plans_of_different_networks_differ_in_their_hash():
    assert hash(plan_of(variant("resnet18"))) != hash(plan_of(variant("resnet34")))


RESNET = to_dict(variant("resnet18"))


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({"family": "resnte"}, 'unknown architecture: family "resnte": did you mean resnet'),
        ({"family": 3}, 'architecture: expected an object with the key "family", one of resnet'),
        (3, 'architecture: expected an object with the key "family"'),
        ({**RESNET, "num_clases": 3}, 'unknown key "num_clases"; did you mean num_classes'),
        ({**RESNET, "num_classes": "3"}, r"architecture: ResNetConfig\.num_classes = '3'"),
    ],
)
def test_an_architecture_that_no_family_knows_is_one_line(architecture, says):
    data = {**to_dict(plan_of(variant("resnet18"))), "architecture": architecture}
    with pytest.raises(ConfigError, match=says) as caught:
        from_dict(Plan, data, "runs/photos-1/recipe.json")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("runs/photos-1/recipe.json: ")
