"""Schedules: what goes is what a sort by hand would take, costs end at the target, and nothing is emptied."""

import copy
import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import host

from foveate.compress.check import unsettle
from foveate.compress.couple import couple
from foveate.compress.criteria.score import Criterion, Scored
from foveate.compress.criteria.taylor import taylor
from foveate.compress.explicit import widths
from foveate.compress.narrow import narrow
from foveate.compress.schedule import (
    PruningSchedule,
    blended,
    bring_back,
    choose,
    fewest,
    floor,
    limited,
    macs,
    removed,
    shrink,
    unit_costs,
    wanted,
)
from foveate.compress.slice import mask
from foveate.config import replace
from foveate.cost.count import cost
from foveate.errors import BudgetError, ConfigError
from foveate.layers import Layers
from foveate.zoo import build
from foveate.zoo.families import resnet

TWO = (resnet.Stage(8, (16, 8), 1), resnet.Stage(16, (24, 16), 2))
SMALL = resnet.ResNetConfig(TWO, stem="cifar", pool="none", stem_widths=(8,), num_classes=5, resolution=16)
GROUPS = {name: len(group.units) for name, group in couple(SMALL).groups.items()}


def scored(seed=0, **options) -> Scored:
    generator = torch.Generator().manual_seed(seed)
    return Scored({n: torch.rand(c, generator=generator, dtype=torch.float64) for n, c in GROUPS.items()}, **options)


def model():
    torch.manual_seed(0)
    return unsettle(build(SMALL), 0).eval()


def draw(i):
    generator = torch.Generator().manual_seed(i)
    return torch.randn(16, 3, 16, 16, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def gone(plan):
    return {(n, i) for n, kept in plan.items() for i in range(GROUPS[n]) if i not in kept}


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_the_cost_ends_just_under_the_target(share):
    target = share * macs(SMALL)
    plan = choose(SMALL, scored(), macs, target)
    smaller = narrow(SMALL, plan)
    assert target * 0.97 < macs(smaller) <= target
    assert smaller.num_classes == 5
    assert all(kept for kept in plan.values())


def test_units_go_in_the_order_of_their_scores_over_all_groups():
    values = scored()
    plan = choose(SMALL, values, macs, 0.6 * macs(SMALL), by_cost=0, refill=0)
    every = sorted((float(v), n, i) for n, part in values.values.items() for i, v in enumerate(part))
    assert gone(plan) == {(n, i) for _, n, i in every[: len(gone(plan))]}


def test_scores_are_divided_by_what_a_unit_costs():
    values, whole = scored(), macs(SMALL)
    prices = unit_costs(SMALL, values)
    for name, count in GROUPS.items():  # a unit alone, where a group is cut by an eighth
        cut = max(1, count // 8)
        smaller = narrow(SMALL, {name: list(range(count - cut))})
        assert prices[name] == pytest.approx((whole - macs(smaller)) / whole / cut)
    plan = choose(SMALL, values, macs, 0.6 * whole, refill=0)
    every = sorted((float(v) / prices[n], n, i) for n, part in values.values.items() for i, v in enumerate(part))
    assert gone(plan) == {(n, i) for _, n, i in every[: len(gone(plan))]}


def test_a_group_gives_no_more_than_its_bound_before_others_must():
    name = "stages.1.mid.0"
    free = choose(SMALL, scored(), macs, 0.6 * macs(SMALL), refill=0)
    assert len(gone({name: free[name]})) > 1
    tight = choose(SMALL, scored(most={name: 1}), macs, 0.6 * macs(SMALL), refill=0)
    assert len(gone({name: tight[name]})) == 1
    beyond = choose(SMALL, scored(most=dict.fromkeys(GROUPS, 1)), macs, 0.3 * macs(SMALL))  # all bounds are passed
    assert macs(narrow(SMALL, beyond)) <= 0.3 * macs(SMALL)


def test_groups_give_in_their_turn():
    turns = {name: float(i) for i, name in enumerate(reversed(GROUPS))}
    plan = choose(SMALL, scored(order=turns), macs, 0.7 * macs(SMALL), refill=0)
    first = [name for name in sorted(turns, key=turns.__getitem__) if name in plan]
    assert all(len(plan[name]) == 1 for name in first[:-1])
    assert set(first) == set(sorted(turns, key=turns.__getitem__)[: len(first)])


def test_widths_are_multiples_where_it_is_asked():
    plan = choose(SMALL, scored(), macs, 0.6 * macs(SMALL), multiple=8)
    assert plan
    assert all(len(kept) % 8 == 0 for kept in plan.values())


def test_a_target_below_the_floor_is_refused_with_it():
    least = macs(floor(SMALL))
    assert least < 0.02 * macs(SMALL)
    with pytest.raises(BudgetError, match=f"{least:.6g} is the least"):
        choose(SMALL, scored(), macs, 0.9 * least)
    assert macs(narrow(SMALL, choose(SMALL, scored(), macs, least))) == least


def test_any_cost_can_be_the_target_and_is_asked_for_seldom():
    asked = []

    def params(config):
        asked.append(config)
        return cost(config, resolution=16).params

    whole = cost(SMALL, resolution=16).params
    plan = choose(SMALL, scored(), params, 0.5 * whole)
    assert cost(narrow(SMALL, plan), resolution=16).params <= 0.5 * whole
    assert len(asked) <= 18 + math.ceil(math.log2(sum(GROUPS.values())))


def test_units_that_still_fit_come_back():
    target = 0.5 * macs(SMALL)
    lean, full = (choose(SMALL, scored(), macs, target, refill=tries) for tries in (0, 16))
    assert gone(full) < gone(lean)
    assert macs(narrow(SMALL, lean)) < macs(narrow(SMALL, full)) <= target


def test_what_is_left_answers_as_the_masked_network_does():
    whole = model().double()
    plan = choose(SMALL, scored(), macs, 0.5 * macs(SMALL))
    smaller, masked = removed(whole, plan), copy.deepcopy(whole)
    mask(masked, plan)
    x = draw(0)[0].double()
    assert float((smaller(x) - masked(x)).detach().abs().max()) == pytest.approx(0, abs=1e-12)
    assert not smaller.training


def test_rounds_shrink_by_equal_factors_and_leave_the_first_model_as_it_is():
    whole, seen = model(), []
    before = {k: v.clone() for k, v in whole.state_dict().items()}

    def tune(smaller, number):
        seen.append(number)
        return smaller

    found = list(shrink(whole, taylor(pictures=32), draw, macs, 0.4 * macs(SMALL), tune, PruningSchedule(rounds=3)))
    assert seen == [0, 1, 2]
    shares = [r.cost / macs(SMALL) for r in found]
    assert shares[-1] <= 0.4
    assert shares == pytest.approx([0.4 ** (i / 3) for i in (1, 2, 3)], rel=0.08)
    assert all(torch.equal(v, before[k]) for k, v in whole.state_dict().items())
    assert found[-1].model.config == narrow(found[-2].model.config, found[-1].plan)


def test_a_fixed_number_of_units_goes_in_a_round():
    found = list(
        shrink(model(), taylor(pictures=16), draw, macs, 0.7 * macs(SMALL), lambda m, _: m, PruningSchedule(units=6))
    )
    counts = [sum(len(g.units) for g in couple(c).groups.values()) for c in (SMALL, *(r.model.config for r in found))]
    assert all(a - b == 6 for a, b in itertools.pairwise(counts[:-1]))
    assert 0.6 * macs(SMALL) < found[-1].cost <= 0.7 * macs(SMALL)


def test_momentum_goes_on_with_the_scores_of_the_units_that_stay():
    given = iter([1.0, 5.0])
    seen = []

    def score(m, batches):
        value = next(given)
        return Scored({n: value + torch.arange(len(g.units)).double() for n, g in couple(m.config).groups.items()})

    def watched(m, number):
        seen.append(m)
        return m

    criterion = Criterion(score, pictures=0, momentum=0.9, by_cost=0)
    list(shrink(model(), criterion, draw, macs, 0.6 * macs(SMALL), watched, PruningSchedule(rounds=2)))
    old, new = torch.tensor([3.0, 4.0]).double(), torch.tensor([5.0, 6.0]).double()
    mixed = blended(Scored({"a": old, "b": old}), Scored({"a": new, "b": new[:1]}), 0.9)
    torch.testing.assert_close(mixed.values["a"], 0.9 * old + 0.1 * new)
    torch.testing.assert_close(mixed.values["b"], new[:1])
    with pytest.raises(ConfigError, match="momentum"):
        taylor(momentum=1.0)


def test_redundancy_bounds_any_criterion():
    whole = model()
    tight = PruningSchedule(bound=0.5, by_cost=0.0)
    (found,) = shrink(whole, taylor(pictures=64), draw, macs, 0.5 * macs(SMALL), lambda m, _: m, tight)
    assert found.cost <= 0.5 * macs(SMALL)
    assert wanted(Criterion(lambda m, b: scored(), pictures=10, per_unit=4), whole) == 4 * max(GROUPS.values())


def test_depthwise_hosts_shrink_too():
    config = replace(host("mobilenet", Layers()), num_classes=4, resolution=32)
    groups = couple(config).groups
    generator = torch.Generator().manual_seed(0)
    values = Scored({n: torch.rand(len(g.units), generator=generator).double() for n, g in groups.items()})
    plan = choose(config, values, macs, 0.6 * macs(config))
    assert 0.55 * macs(config) < macs(narrow(config, plan)) <= 0.6 * macs(config)


def test_a_group_of_least_units_keeps_its_share_until_the_others_have_none_to_give():
    values = scored()
    least = next(iter(GROUPS))
    values.values[least].zero_()
    free = choose(SMALL, values, macs, 0.4 * macs(SMALL))
    held = choose(SMALL, limited(values, 0.8), macs, 0.4 * macs(SMALL))
    assert len(free[least]) == 1
    assert len(held[least]) >= 0.2 * GROUPS[least]
    deep = choose(SMALL, limited(values, 0.8), macs, 1.05 * macs(floor(SMALL)))
    assert any(len(deep[name]) < 0.2 * count for name, count in GROUPS.items())


def channels(config) -> float:
    """A cost that is quick to take and falls with every width."""
    return float(sum(1.5**i * width for i, width in enumerate(widths(config).values())))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 99), st.tuples(st.floats(0.2, 0.98), st.floats(0.2, 0.98)), st.sampled_from([1, 4]))
def test_whatever_the_scores_the_cost_is_reached_and_less_of_it_takes_more(seed, shares, multiple):
    values, whole, least = scored(seed), channels(SMALL), channels(floor(SMALL, multiple))
    tight, loose = (least + share * (whole - least) for share in sorted(shares))
    near, far = (
        choose(SMALL, values, channels, target, multiple=multiple, by_cost=0, refill=0) for target in (loose, tight)
    )
    assert gone(near) <= gone(far)
    full = choose(SMALL, values, channels, loose, multiple=multiple, by_cost=0)
    assert gone(full) <= gone(near)
    for plan, target in ((near, loose), (far, tight), (full, loose)):
        assert channels(narrow(SMALL, plan)) <= target
        assert all(kept and len(kept) % multiple == 0 for kept in plan.values())


@given(st.lists(st.sampled_from("abc"), min_size=1), st.integers(1, 40), st.integers(0, 20))
def test_the_fewest_that_fit_go_and_come_back_as_long_as_they_do(queue, need, tries):
    worth, asked = {"a": 1, "b": 2, "c": 5}, []
    need = min(need, sum(worth[name] for name in queue))

    def fits(remove):
        asked.append(remove)
        return sum(worth[name] * count for name, count in remove.items()) >= need

    count = fewest(queue, fits)
    assert fits(Counter(queue[:count])) and not (count > 1 and fits(Counter(queue[: count - 1])))
    asked.clear()
    left = bring_back(queue[:count], fits, tries)
    assert len(asked) <= tries
    assert fits(left) and left.keys() == set(queue[:count])
    assert all(1 <= left[name] <= n for name, n in Counter(queue[:count]).items())
