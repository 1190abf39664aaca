"""foveate.cost.latency: the clock is told the truth, and the record keeps where it comes from."""

import os
import time

import pytest

from foveate.config import from_json, to_dict, to_json
from foveate.cost.latency import Latency, device_name, measure
from foveate.errors import ConfigError


def test_a_sleep_of_two_ms_is_measured_as_about_two_ms_with_little_cpu():
    timing = measure(lambda: time.sleep(0.002), repeats=30, warmup=1, min_s=0)
    assert 2.0 <= timing.median_ms < 20
    assert timing.cpu_ms < timing.median_ms / 2
    assert 2.0 <= timing.p10_ms <= timing.median_ms <= timing.p90_ms <= timing.p99_ms


def test_work_is_seen_in_the_processor_time():
    timing = measure(lambda: sum(range(100_000)), repeats=30, warmup=1, min_s=0)
    assert timing.cpu_ms > 0.1


def test_warm_up_runs_come_first_and_are_not_counted():
    calls = []
    timing = measure(lambda: calls.append(1), repeats=40, warmup=7, min_s=0)
    assert (timing.n, timing.warmup, len(calls)) == (40, 7, 47)


def test_short_runs_are_repeated_until_the_time_is_filled():
    assert measure(lambda: time.sleep(0.001), repeats=30, warmup=0, min_s=0.1).n > 30


def test_long_runs_stop_at_thirty_when_the_time_is_up():
    assert measure(lambda: time.sleep(0.001), repeats=10_000, warmup=0, max_s=0.01).n == 30


def test_fewer_than_thirty_repeats_are_refused():
    with pytest.raises(ConfigError, match="repeats = 5: at least 30"):
        measure(lambda: None, repeats=5)


def test_the_spread_is_the_width_of_the_middle_eighty_percent():
    values = [1.0] * 8 + [2.0] * 2  # of ten runs
    timing = measure(iter_sleep(values * 4), repeats=40, warmup=0, min_s=0)
    assert timing.spread == pytest.approx((timing.p90_ms - timing.p10_ms) / timing.median_ms)
    assert timing.spread > 0.3


def iter_sleep(milliseconds):
    waits = iter(milliseconds)
    return lambda: time.sleep(next(waits) * 4e-3)


def test_a_latency_reads_back_from_json():
    timing = measure(lambda: None, repeats=30, warmup=0, min_s=0)
    facts = {"threads": 1, "batch": 1, "runtime": "r", "precision": "float32", "device": device_name(), "input": "i"}
    latency = Latency(**to_dict(timing), **facts)
    assert from_json(Latency, to_json(latency)) == latency


def test_the_device_name_counts_the_cores_that_we_may_use():
    name = device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert name.endswith(f"({cores} core{'s' if cores > 1 else ''})")
