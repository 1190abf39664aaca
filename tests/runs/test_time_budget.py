"""Shares of a fit's time, by a clock that is set by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import ConfigError
from foveate.runs.time_budget import END_S, TimeBudget


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def test_ten_minutes_are_shared_out_as_documented():
    clock = Clock()
    time = TimeBudget.start(600.0, clock=clock)
    assert (time.run_s, time.compress_s, time.left_s) == (600.0, 0.0, 600.0)
    assert (time.look_until, time.search_s, time.race_s, time.end_s) == (1150.0, 180.0, 150.0, END_S)
    clock.now += 200.0
    assert (time.left_s, time.race_s, time.training_s) == (400.0, 100.0, 370.0)
    assert time.look_until == 1150.0  # a moment, wherever the clock stands
    clock.now += 385.0
    assert (time.left_s, time.training_s) == (15.0, 0.0)  # only the end's time is left
    clock.now += 100.0
    assert (time.left_s, time.race_s, time.training_s) == (0.0, 0.0, 0.0)


def test_compression_takes_its_share_off_the_whole_first():
    time = TimeBudget.start(600.0, compress=True, clock=Clock())
    assert (time.run_s, time.compress_s) == (360.0, 240.0)
    assert (time.look_until, time.search_s, time.race_s) == (1090.0, 108.0, 90.0)


def test_a_short_run_keeps_a_fifth_for_its_end():
    assert TimeBudget.start(10.0, clock=Clock()).end_s == 2.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ConfigError, match="expected 0 or more"):
        TimeBudget.start(seconds)


TIMES = st.floats(0.0, 1e6)


@given(TIMES, st.booleans(), st.floats(-1e6, 1e6), st.lists(TIMES, max_size=4))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_shares_never_exceed_what_there_is_and_the_end_is_kept(whole, compress, begun, steps):
    clock = Clock(begun)
    time = TimeBudget.start(whole, compress=compress, clock=clock)
    slack = 1e-9 * (abs(begun) + whole)  # rounding
    assert time.run_s + time.compress_s == pytest.approx(whole) and 0 <= time.run_s <= whole
    assert 0 <= time.end_s <= min(END_S, time.run_s)
    assert begun <= time.look_until <= begun + time.run_s + slack
    assert 0 <= time.search_s + (time.look_until - begun) + time.end_s <= time.run_s + slack
    before = time.left_s
    for step in steps:
        clock.now += step
        assert 0 <= time.left_s <= before
        assert 0 <= time.race_s <= time.left_s
        assert time.classic_s == 0 or 2 <= time.classic_s <= min(0.03 * time.run_s, time.training_s) + slack
        assert 0 <= time.training_s <= time.left_s
        assert time.training_s == 0 or time.training_s + time.end_s <= time.left_s + slack
        before = time.left_s


def test_a_slow_machine_keeps_more_for_the_end():
    time = TimeBudget.start(60.0, clock=Clock())
    assert time.kept_s(0.5) == time.end_s == 12.0
    assert time.kept_s(6.0) == 18.0
    assert time.kept_s(100.0) == 24.0  # never more than two fifths
