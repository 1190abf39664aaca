"""Latency measured on this machine: warm up, repeat, report the middle and the spread, with their origin."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from foveate.config import NonNegative, record
from foveate.errors import ConfigError

MIN_REPEATS = 30

Tally = Annotated[int, Field(ge=0, le=10_000_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=10_000_000)]
Text = Annotated[str, Field(max_length=1000)]


@record
class Timing:
    """What a clock says about n runs of one thing."""

    median_ms: NonNegative
    p10_ms: NonNegative
    p90_ms: NonNegative
    p99_ms: NonNegative
    cpu_ms: NonNegative  # median processor time of a run, all threads added; other processes hardly change it
    n: AtLeastOne
    warmup: Tally

    @property
    def spread(self) -> float:
        """(p90 - p10) / median. Over 0.3 the machine was busy or slowed down; look at p10_ms and cpu_ms then."""
        return (self.p90_ms - self.p10_ms) / max(self.median_ms, 1e-9)


@record
class Latency(Timing):
    """A timing with its origin: how it was run, and on what."""

    threads: AtLeastOne
    batch: AtLeastOne
    runtime: Text  # "onnxruntime 1.32.0"
    precision: Text  # "float32"
    device: Text  # device_name()
    input: Text  # what was fed, and so what is in the number


def measure(
    run: Callable[[], object], *, repeats: int = 50, warmup: int = 10, min_s: float = 0.3, max_s: float = 20.0
) -> Timing:
    """Time run(): `warmup` runs unseen, then at least `repeats` runs and at least min_s seconds.

    repeats: at least 30, or the percentiles mean nothing. Past max_s seconds 30 runs are enough.
    """
    if repeats < MIN_REPEATS:
        raise ConfigError(f"repeats = {repeats}: at least {MIN_REPEATS}, for percentiles of fewer mean nothing")
    for _ in range(warmup):
        run()
    wall_s, cpu_s = [], []
    start = time.perf_counter()
    while True:
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        end = time.perf_counter()
        wall_s.append(end - wall)
        cpu_s.append(time.process_time() - cpu)
        n, spent_s = len(wall_s), end - start
        if (n >= repeats and spent_s >= min_s) or (n >= MIN_REPEATS and spent_s >= max_s):
            break
    p10, p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(wall_s, (10, 50, 90, 99)))
    return Timing(p50, p10, p90, p99, float(np.median(cpu_s)) * 1e3, n, warmup)


def device_name() -> str:
    """The processor and how many cores this process may use: "Intel(R) Xeon(R) CPU @ 2.50GHz (2 cores)"."""
    name = platform.processor() or platform.machine() or "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                name = line.partition(":")[2].strip() or name
                break
    except OSError:
        pass  # not Linux
    cores = cores_here()
    return f"{name} ({cores} core{'s' if cores > 1 else ''})"


def cores_here() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
