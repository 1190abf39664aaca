"""result.json and summary.json: the records, their plain form, and the page that describes them."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from foveate.config import field_names, to_json
from foveate.cost.count import cost
from foveate.cost.latency import Latency
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess
from foveate.deploy.parity import Parity
from foveate.events import DataEvent
from foveate.recipes import RECIPES
from foveate.runs.advice import NextStep, Warned
from foveate.runs.plan import Budget, Plan
from foveate.runs.result import (
    BudgetPart,
    CandidateRow,
    CostPart,
    DataPart,
    LayerPart,
    Result,
    SplitPart,
    Summary,
    TrainingPart,
    make_budget_part,
    make_cost_part,
    make_data_part,
    make_only_candidate,
    summarise,
)
from foveate.runs.trust import Fitted, TrustPart, make_trust_part
from foveate.train.evaluate import metrics
from foveate.train.trusted import PLAIN
from foveate.zoo import variant

PAGE = Path(__file__).parent.parent.parent / "docs" / "report.md"
LATENCY = Latency(1.0, 0.9, 1.2, 1.5, 1.0, 50, 10, 1, 1, "onnxruntime 1.20.1", "float32", "a processor (2 cores)", "x")
PARITY = Parity(32, 1.0, 1e-3, 1e-6, 9.0)
BUDGET = Budget(max_latency_ms=5.0, max_macs=300_000_000)
CONFIG = variant("resnet20_cifar")
PLAN = Plan("digits", "resnet20_cifar", CONFIG, RECIPES["baseline"], Preprocess(resolution=32), budget=BUDGET)


def job(left_out=()):
    return SimpleNamespace(train=SimpleNamespace(left_out=left_out), val=SimpleNamespace(left_out=()))


def made(dataset, left_out=()):
    split = dataset.splits["val"]
    logits = np.eye(len(dataset.classes), dtype=np.float32)[list(split.labels)]
    counted = cost(CONFIG, resolution=32)
    return Result(
        title="digits-1",
        command="foveate fit digits",
        created="2026-01-01T00:00:00+00:00",
        version="1",
        seed=0,
        device=LATENCY.device,
        threads=1,
        environment={"torch": "2", "cuda": None},
        data=make_data_part(dataset, job(left_out)),
        budget=make_budget_part(BUDGET, 1, LATENCY),
        candidates=[make_only_candidate(PLAN, LATENCY, 1000, counted, 0.9)],
        training=TrainingPart(PLAN.recipe, [{"epoch": 1}], 2.5, PLAN.recipe.epochs, 1, "running averages", ()),
        test=SplitPart(**metrics(logits, np.array(split.labels), dataset.classes, "val")),
        cost=make_cost_part(counted, 1000, 900),
        latency=LATENCY,
        parity=PARITY,
        trust=make_trust_part(Fitted(PLAIN, None), logits, None, np.array(split.labels), "val"),
        alternatives=[],
        baselines=[{"name": "always 0", "val_accuracy": 0.1, "test_accuracy": 0.1, "seconds": 0.0}],
        warnings=[Warned("few_test_pictures", "6 test pictures only")],
        next_steps=[NextStep("foveate predict best my.jpg", "ask it")],
    )


def test_the_plain_form_has_all_parts_in_their_order():
    dataset = open_data("digits")
    plain = made(dataset).to_dict()
    assert list(plain) == field_names(Result)
    assert json.loads(to_json(plain)) == plain  # tuples are lists already
    for part, record in (("data", DataPart), ("budget", BudgetPart), ("training", TrainingPart), ("test", SplitPart)):
        assert list(plain[part]) == field_names(record)
    assert list(plain["cost"]) == field_names(CostPart) and list(plain["cost"]["layers"][0]) == field_names(LayerPart)
    assert list(plain["latency"]) == field_names(Latency) and plain["parity"] == vars(PARITY)
    assert plain["environment"]["cuda"] is None and plain["candidates"][0]["weights"] is None
    assert plain["data"]["counts"]["train"]["0"] == list(dataset.splits["train"].labels).count(0)
    assert plain["budget"]["text"] == (
        "<= 5 ms and <= 300 M multiply-adds on this device (1 thread, ONNX Runtime 1.20, fp32)"
    )


def test_a_split_that_the_data_has_not_is_absent():
    dataset = open_data("digits")
    dataset = dataclasses.replace(dataset, splits={k: v for k, v in dataset.splits.items() if k != "test"})
    result = made(dataset, left_out=(("a.jpg", "cut short"),))
    data = result.to_dict()["data"]
    assert list(data) == [name for name in field_names(DataPart) if name != "test"]
    assert data["left_out"] == [["a.jpg", "cut short"]]
    found = summarise(Path("runs/digits-1"), PLAN, result, {}, 3).data
    assert (found.test, found.left_out) == (0, 1)


def test_the_summary_tells_of_a_race_only_where_there_was_one():
    result = made(open_data("digits"))
    alone = summarise(Path("runs/digits-1"), PLAN, result, {}, 3)
    assert (alone.race, alone.race_seconds, alone.epochs) == ([], 0.0, 3)
    assert alone.report == str(Path("runs/digits-1/report.html"))
    assert json.loads(to_json(alone))["test_interval"] == list(result.test.interval)
    rows = [{"model": "a", "val_accuracy": 0.5}, {"model": "b"}]
    assert (alone.time_s, alone.seconds, alone.weights, alone.metric) == (None, 2.5, None, "accuracy")
    assert alone.warnings[0].code == "few_test_pictures" and alone.test_score == alone.test_accuracy
    raced = summarise(Path("runs/digits-1"), PLAN, result, {"candidates": rows, "race_seconds": 4.0}, 3)
    assert (raced.race, raced.race_seconds) == (rows[:1], 4.0)


def names(text):
    """ "a b[{c, d}] e" -> ["a", "b", "e"]."""
    while text != (text := re.sub(r"\[[^\[\]]*\]|\{[^{}]*\}", "", text)):
        pass
    return text.split()


def test_the_page_names_every_key():
    text = PAGE.read_text().split("## The result")[1]
    table = dict(re.findall(r"^\| `([^`|]+)` \| (.*) \|$", text, re.M))
    fields = {key.removesuffix("[]"): names(re.findall("`([^`]+)`", row)[0]) for key, row in table.items()}
    first = next(iter(fields))
    assert first.split() + list(fields)[1:] == field_names(Result)
    for key, record in (
        ("data", DataPart),
        ("budget", BudgetPart),
        ("training", TrainingPart),
        ("test", SplitPart),
        ("cost", CostPart),
        ("latency", Latency),
        ("parity", Parity),
        ("trust", TrustPart),
    ):
        assert fields[key] == field_names(record)
    assert fields["candidates"] == list(CandidateRow.__annotations__)
    assert ", ".join(field_names(LayerPart)) in table["cost"] and ", ".join(field_names(DataEvent)) in text
    assert field_names(Summary) in [names(quoted) for quoted in re.findall("`([^`]+)`", text)]
