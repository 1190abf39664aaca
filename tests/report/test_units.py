"""Numbers as people read them, and back: the command line's parsers read what the formatters write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.cli import units as typed
from foveate.report import units


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@given(numbers(0.01, 1e9))
def test_a_latency_reads_back_within_half_its_last_digit(value):
    step = 1.0 if value >= 99 else 0.1 if value >= 0.99 else 0.01 if value >= 0.099 else 0.001
    assert typed.latency_ms("--x", units.milliseconds(value)) == pytest.approx(value, abs=0.51 * step)
    assert typed.latency_ms("--x", units.milliseconds(value, exact=True)) == pytest.approx(value, rel=1e-5)


@given(st.integers(1, 10**15))
def test_a_size_reads_back_within_its_rounding(value):
    assert typed.size_bytes("--x", units.size(value)) == pytest.approx(value, rel=0.051)
    assert typed.size_bytes("--x", units.size(value, exact=True)) == pytest.approx(value, rel=1e-3)


@given(st.integers(1, 10**15))
def test_a_count_reads_back_within_its_rounding(value):
    assert typed.count("--x", units.count(value)) == pytest.approx(value, rel=0.051)
    assert typed.count("--x", units.count(value, exact=True)) == pytest.approx(value, rel=1e-3)


@given(numbers(1.0, 1e6))
def test_a_time_reads_back_to_the_second_or_the_minute(value):
    step = 60.0 if value >= 3599 else 1.0
    assert typed.time_s("--x", units.duration(value)) == pytest.approx(value, abs=step)


@pytest.mark.parametrize(
    ("form", "parse"),
    [(units.size, typed.size_bytes), (units.count, typed.count), (units.milliseconds, typed.latency_ms)],
)
@given(data=st.data())
def test_more_never_looks_like_less(form, parse, data):
    low, high = sorted(data.draw(st.tuples(numbers(1, 1e14), numbers(1, 1e14))))
    assert parse("--x", form(low)) <= parse("--x", form(high))


@given(numbers(0, 1), st.integers(1, 3))
def test_a_share_reads_back_and_only_all_is_a_hundred(value, digits):
    text = units.percent(value, digits)
    assert float(text) / 100 == pytest.approx(value, abs=0.51 * 10 ** -(digits + 2))
    assert (float(text) == 100) == (value == 1)


@given(numbers(-1, 1))
def test_a_difference_has_a_sign_and_no_negative_nothing(value):
    text = units.points(value, 2)
    assert text[0] in "+-"
    assert float(text) == pytest.approx(100 * value, abs=0.0051)


def test_one_is_not_many():
    assert [units.plural(n, "thread") for n in (1, 2, 1024)] == ["1 thread", "2 threads", "1,024 threads"]
