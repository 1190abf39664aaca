"""Power, verdicts and sizes, against the closed forms, scipy and the definitions."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from foveate.workflows.papers.measures import read
from foveate.workflows.papers.power import detectable, half_width, planned_sd, power_line, seeds_to_settle
from foveate.workflows.papers.scale import Pool, Scale, expected_s, fitting
from foveate.workflows.papers.table import Contrast, Found, Published
from foveate.workflows.papers.verdict import FAILS, HOLDS, OPEN, judge, of_table, rows_of

SEEDS = (3, 4, 5, 6, 8, 10, 15, 20)
# of paired t tests, two-sided 5 %: half-width and the effect seen in 80 % of cases, over the deviation
HALF = (2.48, 1.59, 1.24, 1.05, 0.84, 0.72, 0.55, 0.47)
SEEN = (3.26, 2.13, 1.68, 1.43, 1.15, 1.00, 0.78, 0.66)


def claim(kind="more", value=2.0, margin=0.3, **rest):
    return Contrast("a - b", Published(value, "s", "t", "read"), claim=kind, margin=margin, **rest)


@pytest.mark.parametrize(("n", "half", "seen"), list(zip(SEEDS, HALF, SEEN, strict=True)))
def test_the_power_of_paired_seeds_is_that_of_the_t_test(n, half, seen):
    assert half_width(n, 1.0) == pytest.approx(half, abs=0.006)
    assert detectable(n, 1.0) == pytest.approx(seen, abs=0.011)
    shift = detectable(n, 1.0) * math.sqrt(n)
    beyond = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, shift)
    assert beyond == pytest.approx(0.8, abs=1e-6)


def test_power_by_simulation():
    random, n = np.random.default_rng(0), 5
    sample = random.normal(detectable(n, 2.0), 2.0, size=(20_000, n))
    low = sample.mean(1) - stats.t.ppf(0.975, n - 1) * sample.std(1, ddof=1) / math.sqrt(n)
    assert (low > 0).mean() == pytest.approx(0.8, abs=0.01)


def test_the_line_says_what_can_be_told_and_whether_that_is_enough():
    assert "too few for that: 5 seeds would see it" in power_line(3, 1.0, "points", "planned", 2.0)
    assert power_line(5, 1.0, "points", "planned", 2.0).endswith("the claim is 2")
    assert "not settled" in power_line(1, 1.0, "points", "planned", 2.0)
    assert planned_sd(1.0, 10_000) == 1.0
    assert planned_sd(0.0, 200) == pytest.approx(100 * math.sqrt(0.08 * (1 / 200 - 1e-4)))
    assert planned_sd(0.1, 200, unit_is_points=False) == 0.1


def test_seeds_that_would_settle_it_are_the_fewest():
    for mean, sd in ((1.0, 1.0), (0.5, 2.0), (-3.0, 1.0)):
        n = seeds_to_settle(mean, sd)
        assert half_width(n, sd) < abs(mean) and (n == 2 or half_width(n - 1, sd) >= abs(mean))
    assert seeds_to_settle(0.0, 1.0) is None
    assert seeds_to_settle(1.0, 1.0, tests=4) > seeds_to_settle(1.0, 1.0)
    assert half_width(5, 1.0, tests=4) == pytest.approx(stats.t.ppf(1 - 0.025 / 4, 4) / math.sqrt(5))


@pytest.mark.parametrize(
    ("kind", "interval", "p", "verdict"),
    [
        ("more", (0.1, 3.0), 0.01, HOLDS),
        ("more", (0.1, 3.0), 0.06, OPEN),  # not after Holm
        ("more", (-3.0, -0.1), 0.01, FAILS),
        ("more", (-0.9, 0.9), 0.9, FAILS),  # below half of the 2 that are claimed
        ("more", (-0.9, 1.1), 0.9, OPEN),
        ("less", (-3.0, -0.1), 0.01, HOLDS),
        ("less", (0.1, 3.0), 0.01, FAILS),
        ("same", (-0.2, 0.29), None, HOLDS),
        ("same", (-0.2, 0.31), None, OPEN),
        ("same", (0.31, 0.5), None, FAILS),
        ("same", (-0.5, -0.31), None, FAILS),
    ],
)
def test_verdicts_are_those_of_the_rule(kind, interval, p, verdict):
    assert judge(claim(kind), 0.0, interval, p) == verdict


def test_without_an_effect_or_an_interval_nothing_is_refuted():
    assert judge(claim(value=None), 0.0, (-0.1, 0.1), 0.9) == OPEN
    assert judge(claim(effect=1.0, value=None), 0.0, (-0.1, 0.1), 0.9) == FAILS
    assert judge(claim(), None, None) == judge(claim(), 1.0, None) == OPEN


def test_rows_have_the_interval_of_the_paired_t_and_the_correction_of_the_table():
    values = (1.0, 1.4, 0.8, 1.2, 1.1)
    other = Contrast("c - d", Published(1.0, "s", "t"), main=False)
    given = {"a - b": Found("a - b", values), "c - d": Found("c - d", (0.5, -0.4, 0.1))}
    rows = rows_of((claim(), other), given)
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert rows[0]["interval"] == pytest.approx(list(expected))
    assert rows[0]["p_holm"] == pytest.approx(2 * stats.ttest_1samp(values, 0).pvalue)
    assert [row["verdict"] for row in rows] == [HOLDS, OPEN]
    assert rows[1]["seeds_to_settle"] > 3
    assert of_table(rows) == HOLDS  # the second is not what the table claims
    assert of_table([{"main": True, "verdict": v} for v in (HOLDS, OPEN)]) == OPEN
    assert of_table([{"main": True, "verdict": v} for v in (HOLDS, OPEN, FAILS)]) == FAILS


def test_values_without_scatter_have_no_interval_and_exact_counts_have_one():
    rows = rows_of((claim(),), {"a - b": Found("a - b", (1.0, 1.0))})
    assert rows[0]["interval"] is None and rows[0]["verdict"] == OPEN and "same in every seed" in rows[0]["note"]
    exact = rows_of((claim(),), {"a - b": Found("a - b", (1.0,), 1.0, 1.0)})
    assert exact[0]["interval"] == [1.0, 1.0] and exact[0]["verdict"] == HOLDS
    none = rows_of((claim(),), {})
    assert none[0]["here"] is None and none[0]["verdict"] == OPEN


def test_a_budget_takes_the_largest_size_that_fits():
    pool, target = Pool(45_000, 5_000, 10_000), Scale(10_000, 20, 5)
    for budget in (60.0, 300.0, 1_800.0):
        found = fitting([1.0, 2.0], budget, pool, target)
        assert expected_s([1.0, 2.0], found, pool) <= budget
        assert found.seeds in (5, 3, 2) and 500 <= found.pictures <= 10_000 and 1 <= found.epochs <= 20
    assert fitting([0.01], 1e6, pool, target).pictures == 10_000
    much = fitting([0.01], 1e6, pool, target)
    assert (much.pictures, much.epochs, much.seeds, much.test) == (10_000, 20, 5, 10_000)
    tight = fitting([5.0] * 6, 60.0, pool, target, given_seeds=True)
    assert tight.seeds == 5 and tight.epochs == 1 and tight.expected_s > 60.0
    built_in = fitting([1.0], 60.0, Pool(1_439, 179, 179, cut=False), target)
    assert built_in.pictures == 1_439 and built_in.expected_s <= 60.0


def test_a_training_that_broke_off_is_a_guess_and_one_without_memory_is_none(tmp_path):
    lines = [
        {"epoch": 1, "loss": 2.0, "val_accuracy": 0.3, "val_loss": 1.0},
        {"epoch": 2, "loss": 1.5, "val_accuracy": 0.5, "val_loss": 0.9},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    good = {"failed": None, "accuracy": 0.6, "ece": 0.05}
    ours = {"accuracy": 60.0, "last_epoch": 50.0, "first_epoch": 30.0, "train_loss": 1.5}
    wanted = {**ours, "calibration_error": 5.0, "val_loss": 0.9}
    assert {name: read(name, tmp_path, good, 10) for name in wanted} == pytest.approx(wanted)
    broken = {"failed": "the loss of step 3 is not finite"}
    assert read("accuracy", tmp_path, broken, 10) == 10.0
    assert read("train_loss", tmp_path, broken, 10) == pytest.approx(math.log(10))
    assert read("accuracy", tmp_path, {"failed": "out of memory"}, 10) is None
