"""Which trials become the models of a front."""

import pytest

from foveate.search.study import Found
from foveate.workflows.search.front import choose_front


def trial(number, cost, value, fits=True):
    facts = {"latency_ms": cost, "macs": 1, "fits": fits, "score": value}
    return Found((number,), (value,), facts, number)


def test_a_front_spreads_over_the_range_of_costs_with_the_best_of_every_part():
    done = [trial(0, 1.0, 50), trial(1, 1.1, 60), trial(2, 2.2, 70), trial(3, 2.5, 65), trial(4, 8.0, 90)]
    done.append(trial(5, 4.0, 95, fits=False))
    assert [f.number for f in choose_front(done, done[4], 3)] == [1, 2]


def test_the_winner_may_be_the_cheapest_and_empty_parts_are_filled_with_what_is_best():
    done = [trial(0, 1.0, 90), trial(1, 7.0, 70), trial(2, 7.5, 80), trial(3, 8.0, 60)]
    assert [f.number for f in choose_front(done, done[0], 3)] == [1, 2]


@pytest.mark.parametrize(("count", "chosen"), [(1, 0), (3, 1), (5, 1)])
def test_no_more_than_there_are_and_no_more_than_asked(count, chosen):
    done = [trial(0, 1.0, 50), trial(1, 2.0, 60)]
    assert len(choose_front(done, done[1], count)) == chosen
