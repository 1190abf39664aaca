"""Compound scaling: the released EfficientNets, rules of the families, budgets, the grid and its search."""

import json
import math

import pytest
import torch

from foveate.cli import main
from foveate.config import replace
from foveate.cost.count import cost
from foveate.errors import ConfigError
from foveate.search.scaling import (
    Coefficients,
    candidates,
    compound,
    grid,
    search_coefficients,
    stretch,
    to_macs,
)
from foveate.zoo import build, config_from, variant
from foveate.zoo.families.regnet.network import design

# name -> width, depth, pixels, dropout: efficientnet_builder.py of the authors; L2 of their noisy student
RELEASED = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "l2": (4.3, 5.3, 800, 0.5),
}
# stages of B7 and L2 as the authors' rounding gives them: (layers, channels)
STAGES = {
    "b1": ((2, 16), (3, 24), (3, 40), (4, 80), (4, 112), (5, 192), (2, 320)),
    "b4": ((2, 24), (4, 32), (4, 56), (6, 112), (6, 160), (8, 272), (2, 448)),
    "b7": ((4, 32), (7, 48), (7, 80), (10, 160), (10, 224), (13, 384), (4, 640)),
    "l2": ((6, 72), (11, 104), (11, 176), (16, 344), (16, 480), (22, 824), (6, 1376)),
}
FAMILIES = ("efficientnet_b0", "resnet18", "mobilenetv2_050", "mnasnet_a1")
FAMILIES += ("regnetx_002", "resnet20_cifar")


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_coefficients_give_the_released_nets(name):
    width, depth, pixels, dropout = RELEASED[name]
    made = stretch(variant("efficientnet_b0"), depth, width, pixels / 224)
    assert replace(made, dropout=dropout) == variant(f"efficientnet_{name}")
    if name in STAGES:
        assert tuple((s.depth, s.width) for s in made.stages) == STAGES[name]


@pytest.mark.parametrize(("name", "size"), [("b1", 240), ("b3", 300), ("b7", 600), ("l2", 800)])
def test_released_nets_are_timms(name, size):
    import timm

    width, depth, pixels, _ = RELEASED[name]
    made = stretch(variant("efficientnet_b0"), depth, width, pixels / 224)
    with torch.device("meta"):
        ours, theirs = build(made), timm.create_model(f"tf_efficientnet_{name}")
    assert made.resolution == size
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_factors_of_one_change_nothing():
    for name in FAMILIES:
        assert stretch(variant(name)) == variant(name)
        assert compound(variant(name), Coefficients(), 0) == variant(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_scaled_nets_build_and_meet_the_budget(name):
    base = variant(name)
    before = cost(base).macs
    for factor in (0.5, 2.0):
        scaled = to_macs(base, factor * before, Coefficients())
        assert scaled.macs == cost(scaled.config).macs
        # a tenth off at most; where three stages of three blocks and few pixels leave no finer choice, a sixth
        assert scaled.macs == pytest.approx(factor * before, rel=0.17 if base.resolution == 32 else 0.1)
        assert (scaled.phi > 0) == (factor > 1) and scaled.config.family == base.family
    with torch.inference_mode():
        assert build(replace(scaled.config, num_classes=3)).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_depth_width_and_resolution_cost_what_the_paper_says():
    base = variant("resnet50")
    macs = cost(base).macs
    assert cost(stretch(base, width=2.0)).macs == pytest.approx(4 * macs, rel=0.05)
    assert cost(stretch(base, resolution=2.0)).macs == pytest.approx(4 * macs, rel=0.02)
    deep = stretch(base, depth=2.0)
    assert [len(s.mid) for s in deep.stages] == [6, 8, 12, 6]
    assert cost(deep).macs == pytest.approx(2 * macs, rel=0.15)  # the stem is there once


def test_rules_of_the_families():
    wide = stretch(variant("resnext50_32x4d"), width=1.3)
    assert all(m % 32 == 0 for s in wide.stages for m in s.mid) and wide.stages[0].groups == 32
    grown = stretch(design(13, 24, 36.44, 2.49, 8), width=2.0)
    assert [(s.width, s.group_width) for s in grown.stages] == [(48, 16), (112, 16), (304, 16), (736, 16)]
    shallow = stretch(variant("resnet18"), depth=0.3)
    assert [len(s.mid) for s in shallow.stages] == [1, 1, 1, 1]
    # MobileNetV2's own rule: 1.1 of layers and 1.1 of widths, ends kept apart
    assert [len(s.blocks) for s in stretch(variant("mobilenetv2_100"), depth=1.2).stages] == [1, 3, 4, 5, 4, 4, 1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stretch(variant("vgg16"), 2.0), "no scaling rule"),
        (lambda: stretch(variant("resnet18"), 0.0), "above 0"),
        (lambda: stretch(variant("g_ghost_regnetx_032"), 2.0), "ghost"),
        (lambda: Coefficients(alpha=0.9), "alpha"),
        (lambda: to_macs(variant("resnet18"), 1e9, Coefficients(1.0, 1.0, 1.0)), "do not scale"),
        (lambda: grid(0), "at least 1 step"),
    ],
)
def test_what_can_not_be_scaled_is_said(call, says):
    with pytest.raises(ConfigError, match=says):
        call()


def test_the_grid_shares_out_one_doubling():
    rows = grid(4)
    assert len(rows) == len(set(rows)) == 15
    assert all(c.macs == pytest.approx(2.0, abs=1e-12) for c in rows)
    assert Coefficients(2.0, 1.0, 1.0) in rows and Coefficients(1.0, math.sqrt(2), 1.0) in rows
    assert Coefficients().macs == pytest.approx(1.2 * 1.1**2 * 1.15**2)


@pytest.fixture(scope="module")
def small_grid():
    return candidates(variant("resnet20_cifar"))


def test_candidates_cost_the_same_and_the_best_score_wins(small_grid):
    rows, far = small_grid
    macs = cost(variant("resnet20_cifar")).macs
    assert all(abs(row.scaled.macs / (2 * macs) - 1) <= 0.1 for row in rows) and len(rows) + len(far) <= 15
    assert len({row.scaled.config for row in rows}) == len(rows) >= 8

    def evaluate(config):  # likes pixels; breaks on the base's own
        if config.resolution == 32:
            raise ArithmeticError("the loss is nan")
        return config.resolution / 100

    heard = []
    found = search_coefficients(rows, evaluate, heard.append)
    assert found[0].coefficients.gamma == max(row.coefficients.gamma for row in rows)
    assert found[0].score == max(row.scaled.config.resolution for row in rows) / 100
    failed = [row for row in found if row.score is None]
    assert failed and found[-len(failed) :] == failed and "nan" in failed[0].error and len(heard) == len(rows)
    with pytest.raises(ConfigError, match="no candidate has a score; score nan"):
        search_coefficients(rows, lambda config: math.nan)
    with pytest.raises(ConfigError, match="the grid is empty"):
        search_coefficients([], evaluate)


def test_coefficients_found_on_a_small_base_scale_any_budget(small_grid):
    base = variant("resnet20_cifar")
    found = search_coefficients(small_grid[0], lambda config: sum(len(s.mid) for s in config.stages))
    deep = to_macs(base, 8 * cost(base).macs, found[0].coefficients)
    assert found[0].coefficients == Coefficients(2.0, 1.0, 1.0)
    assert {len(s.mid) for s in deep.config.stages} <= {23, 24} and deep.phi == pytest.approx(3.0, abs=0.1)


def test_the_command_prints_the_config_with_its_exact_cost(capsys):
    assert main(["scale", "resnet20_cifar", "--macs", "100M", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    config = config_from(said["architecture"])
    assert cost(config).macs == said["scaled"]["macs"] == pytest.approx(100e6, rel=0.1)
    assert said["coefficients"] == {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    assert main(["scale", "resnet20_cifar", "--macs", "2x", "--alpha", "2"]) == 0
    text = capsys.readouterr().out
    assert "layers    3 3 3 -> 6 6 6" in text and "widths    16 32 64 -> 16 32 64" in text


def test_the_command_finds_coefficients_on_pictures_within_its_time(capsys):
    asked = ["--resolution", "8", "--data", "digits", "--time", "4s", "--steps", "1", "--json", "--quiet"]
    assert main(["scale", "resnet20_cifar", *asked]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = said["grid"]["rows"]
    scores = [row["val_accuracy"] for row in rows]
    assert len(rows) >= 2 and scores == sorted(scores, reverse=True) and 0 <= scores[-1] <= scores[0] <= 1
    assert said["grid"]["n"] > 100 and said["grid"]["train_s"] >= 1.0
    assert {key: rows[0][key] for key in ("alpha", "beta", "gamma")} == said["coefficients"]
    assert said["architecture"]["num_classes"] == 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--macs", "fast"), "--macs"),
        (("--macs", "0x"), "from 0.01x"),
        (("--data", "digits", "--alpha", "2"), "leave out --data"),
        (("--alpha", "0.5"), "alpha = 0.5"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, says, capsys):
    assert main(["scale", "resnet20_cifar", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
