"""The plan of the steps: what the next one is to cost, whatever was asked for and however it was missed."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.workflows.compress import targets
from foveate.workflows.compress.goal import STEP, Goal, steps_to
from foveate.workflows.compress.targets import EXTRA, MOST, NEAR, next_goal


def walk(goal, misses, lost=()):
    """The costs asked for, one step after the other. misses: what a step measures over what was asked for."""
    rows = [{"macs": 1.0, "latency_ms": 1.0, "method": "original", "val_accuracy": 0.9, "run": 0}]
    run = SimpleNamespace(goal=goal, cost=lambda config: rows[-1][goal.kind])
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "config_of", lambda row: row)
        patch.setattr(targets, "floor", lambda config, multiple: config)
        run.cost = lambda config: 1e-3 if goal.target is None else config[goal.kind]
        for miss, loss in zip(misses, lost or [0.0] * len(misses), strict=True):
            if (wanted := next_goal(run, rows)) is None:
                break
            asked.append((rows[-1][goal.kind], wanted))
            cost = min(wanted * miss, rows[-1][goal.kind])
            rows.append({**rows[0], goal.kind: cost, "method": "taylor", "val_accuracy": 0.9 - loss, "run": len(rows)})
        return asked, rows, next_goal(run, rows)


@given(st.floats(0.02, 0.98), st.integers(1, 8))
def test_steps_that_hit_what_is_asked_end_at_the_target_in_equal_factors(target, steps):
    asked, rows, then = walk(Goal("m", "macs", target, steps=steps), [1.0] * (steps + EXTRA + 2))
    assert rows[-1]["macs"] <= target and then is None
    assert len(asked) in (steps, steps + 1)  # one more where the last product rounds to above the target
    assert [wanted / before for before, wanted in asked[:steps]] == pytest.approx([target ** (1 / steps)] * steps)


@given(st.floats(0.02, 0.98), st.integers(1, 6), st.lists(st.floats(0.8, 1.3), min_size=20, max_size=20),
       st.sampled_from(["macs", "latency_ms"]))  # fmt: skip
def test_misses_are_made_good_in_few_steps_and_no_goal_rises(target, steps, misses, kind):
    asked, rows, then = walk(Goal("m", kind, target, steps=steps), misses)
    assert then is None
    assert len(asked) <= steps + EXTRA
    assert all(0 < wanted < before for before, wanted in asked)
    if kind == "latency_ms":
        assert all(wanted <= NEAR * before for before, wanted in asked)
    assert rows[-1][kind] <= target or len(asked) == steps + EXTRA
    assert all(row[kind] > target for row in rows[:-1])


@given(st.lists(st.floats(0.0, 0.05), min_size=20, max_size=20), st.floats(0.0, 3.0), st.integers(0, 6))
def test_without_a_target_steps_go_on_until_the_accuracy_is_lost(lost, drop, steps):
    asked, rows, then = walk(Goal("m", "macs", None, max_drop=drop, steps=steps), [1.0] * 20, lost)
    assert then is None
    assert len(asked) <= (steps or MOST)
    assert [wanted / before for before, wanted in asked] == pytest.approx([STEP] * len(asked))
    best = max(row["val_accuracy"] for row in rows)
    within = 100 * (best - rows[-1]["val_accuracy"]) <= drop
    assert not within or len(asked) == (steps or MOST)


@given(st.floats(1e-6, 1.0))
def test_steps_are_about_equal_to_the_usual_one(share):
    count = steps_to(share)
    assert count >= 1
    assert share >= STEP ** (count + 1e-6) or share >= 0.999
    assert share <= STEP ** (count - 1 - 1e-6) or count == 1
