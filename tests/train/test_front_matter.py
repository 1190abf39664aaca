"""The head of a model card is YAML that hubs read, whatever classes, data and runs are called."""

import dataclasses

import pytest
import yaml

from foveate.data.preprocess import Preprocess
from foveate.train.artefact import Metric, ModelCard, model_files
from foveate.zoo import build
from foveate.zoo.families import FAMILIES

TINY = dataclasses.replace(FAMILIES["resnet"].tiny, num_classes=2)
STATE = build(TINY).state_dict()
ODD = (
    'a "quoted" name',
    "key: value",
    "- a dash",
    "---\nlicense: gpl",
    "# a comment",
    "{a: [b",
    "*alias &anchor !tag",
    "yes",
    "null",
    "1e3",
    "back\\slash",
    "tab\there",
    "ünïcode 猫 🐈",
    "left \u202e right",
    "nel \x85 ps \u2029 bom \ufeff",
    "surrogate \udce9",
    "  spaces  ",
    "'single'",
    "%YAML 1.2",
    "",
)


def head(facts=None, metrics=()):
    card = ModelCard(TINY, ("cat", "dog"), Preprocess(resolution=32), facts or {}, metrics)
    text = model_files(card, STATE)["README.md"].decode()
    first, block, rest = text.split("---\n", 2)
    assert first == "" and rest.lstrip().startswith("# ")
    return yaml.safe_load(block)


def test_it_says_library_task_and_tags():
    assert head() == {
        "library_name": "foveate",
        "pipeline_tag": "image-classification",
        "tags": ["foveate", "image-classification", "resnet"],
    }


def test_it_says_license_data_and_what_was_measured():
    metrics = (
        Metric("accuracy", 0.912, 0.89, 0.931, 500, "test", "digits", 0),
        Metric("latency_ms", 1.25),
        Metric("accuracy of the int8 file", 0.9, split="test", data="digits"),
    )
    made = head({"model": "resnet20_cifar", "data": "digits", "license": "MIT"}, metrics)
    assert made["license"] == "mit" and made["datasets"] == ["digits"]
    assert made["metrics"] == ["accuracy", "accuracy-of-the-int8-file"]
    (index,) = made["model-index"]
    assert index["name"] == "resnet20_cifar" and len(index["results"]) == 2
    assert index["results"][0] == {
        "task": {"type": "image-classification"},
        "dataset": {"name": "digits", "type": "digits", "split": "test"},
        "metrics": [{"type": "accuracy", "value": 0.912}],
    }


@pytest.mark.parametrize("name", ODD)
def test_no_name_breaks_it(name):
    text = name.encode("utf-8", "replace").decode()  # records hold no surrogates
    metrics = (Metric(text or "accuracy", 1e-07, split=text, data=text, n=3),)
    made = head({"model": name, "data": name, "license": name}, metrics)
    known = {"library_name", "pipeline_tag", "tags", "license", "license_name", "datasets", "metrics", "model-index"}
    assert set(made) <= known and made["tags"][0] == "foveate"
    assert made.get("license", "other") == "other"
    (index,) = made["model-index"]
    assert isinstance(index["name"], str) and isinstance(index["results"][0]["dataset"]["name"], str)
    assert index["results"][0]["metrics"][0]["value"] == pytest.approx(1e-07)


@pytest.mark.parametrize("data", ["/home/me/photos", "my photos", "a/b/c", "../x", "x" * 200])
def test_data_that_is_no_name_of_a_hub_is_no_dataset(data):
    assert "datasets" not in head({"data": data})
    assert head({"data": "org/set_1.0"})["datasets"] == ["org/set_1.0"]


def test_a_license_of_ones_own_is_named():
    made = head({"license": "My House Licence 2"})
    assert (made["license"], made["license_name"]) == ("other", "my-house-licence-2")
