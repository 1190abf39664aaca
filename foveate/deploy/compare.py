"""One model in every runtime and precision: time, size and what the precision costs in accuracy, side by side; and
which of them to keep.
"""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from foveate.config import NonNegative, Probability, near, record, to_dict
from foveate.cost.latency import MIN_REPEATS, AtLeastOne, Latency, Text, Timing, device_name
from foveate.data.preprocess import Preprocess
from foveate.deploy import torch_engine
from foveate.deploy.runtime import first_line
from foveate.deploy.runtimes import RUNTIMES
from foveate.deploy.subject import Engine, Subject
from foveate.errors import ConfigError, DataError

MAX_DROP = 0.01  # of accuracy, as a share: one point
MARGIN = 0.03  # by which a lower precision has to be faster: less is no gain, but what it does to other pictures is
WARMUP = 5
CUDA = "cuda: "  # how the names of such devices begin
Pair = tuple[str, str]  # a name of RUNTIMES and one of its precisions


@dataclass(frozen=True)
class Sample:
    """Pictures on which answers are compared: decoded uint8 (H, W, 3) of any sizes; labels int64 (N,) where known."""

    pictures: Sequence[np.ndarray]
    labels: np.ndarray | None = None
    name: str = "given"  # "test of clothing256", "generated"


@record
class Measured(Latency):
    """A runtime and precision that was measured. `runtime` has its version, `engine` is its name in RUNTIMES."""

    engine: Text
    size_bytes: Annotated[int, Field(ge=0)]  # on disk
    agreement: Probability  # share of the pictures with the class of eager fp32
    pictures: AtLeastOne
    pictures_of: Text
    accuracy: Probability | None  # None: no labels
    drop: float | None  # accuracy of eager fp32 minus this one's
    prepare_s: NonNegative  # to make it ready: export, calibration, compilation


@record
class Unavailable:
    """A runtime and precision that was not measured, and why."""

    engine: Text
    precision: Text
    reason: Text


@dataclass(frozen=True)
class Comparison:
    """Everything that was asked for."""

    measured: tuple[Measured, ...]
    unavailable: tuple[Unavailable, ...]
    best: Measured | None
    rule: str  # how best was chosen

    def as_dict(self) -> dict[str, Any]:
        """For --json: "runtimes" has a row for each, measured or with its reason; "best" is one of them or null."""
        rows = [to_dict(m) | {"spread": m.spread, "reason": None} for m in self.measured]
        rows += [to_dict(u) for u in self.unavailable]
        best = self.best and {"engine": self.best.engine, "precision": self.best.precision, "rule": self.rule}
        return {"runtimes": rows, "best": best}


def measure_all(
    model: nn.Module,
    preprocess: Preprocess,
    threads: int = 1,
    batch: int = 1,
    pictures: Sample | None = None,
    runtimes: Sequence[str] | None = None,
    *,
    calibration: Sequence[np.ndarray] | None = None,
    max_drop: float = MAX_DROP,
) -> Comparison:
    """Time a model in all runtimes, or in those named ("openvino", "onnxruntime:int8"), on the processor.

    pictures: where they have labels, accuracies are compared; else classes with eager fp32; None: on generated
    pictures. calibration: of int8; by default the same pictures (of which labels are not used).
    """
    sample = pictures or Sample(generated(), name="generated")
    with torch.no_grad():
        side = preprocess.resolution
        classes = tuple(map(str, range(model.eval()(torch.zeros(1, preprocess.channels, side, side)).shape[1])))
    given = sample.pictures if calibration is None else calibration
    subject = Subject(model, preprocess, classes, threads, batch, calibration=given)
    return compare(subject, sample, pairs(runtimes), max_drop=max_drop)


def pairs(names: Iterable[str] | None) -> tuple[Pair, ...]:
    """What to measure: every runtime and precision (None), or those named as NAME or NAME:PRECISION."""
    if names is None:
        return tuple((name, p) for name, runtime in RUNTIMES.items() for p in runtime.precisions)
    found: list[Pair] = []
    for text in names:
        name, _, precision = text.partition(":")
        if name not in RUNTIMES:
            raise ConfigError(f'runtime "{name}": {near(name, RUNTIMES)}')
        known = RUNTIMES[name].precisions
        if precision and precision not in known:
            raise ConfigError(f'runtime "{text}": {name} has {", ".join(known)}')
        found += [(name, p) for p in known if precision in ("", p)]
    return tuple(dict.fromkeys(found))


def quick() -> tuple[Pair, ...]:
    """Those that need neither calibration nor minutes of compilation."""
    return tuple((name, p) for name, runtime in RUNTIMES.items() for p in runtime.quick)


def compare(
    subject: Subject,
    sample: Sample,
    wanted: Sequence[Pair],
    *,
    repeats: int = MIN_REPEATS,
    max_s: float = 120.0,
    max_drop: float = MAX_DROP,
) -> Comparison:
    """Make all wanted pairs ready, compare their answers, and time them in turns, in one process.

    In each round every engine has one run unseen and one that counts, in an order that is drawn anew: what else the
    machine does hits all alike. At least 30 rounds; past max_s seconds no more than that. An engine that can not run
    here is listed with the reason. DataError for a sample without pictures.
    """
    if repeats < MIN_REPEATS:
        raise ConfigError(f"repeats = {repeats}: at least {MIN_REPEATS}, for percentiles of fewer mean nothing")
    if not len(sample.pictures):
        raise DataError("no pictures to compare answers on; give at least one")
    frames = np.stack([subject.frame(picture) for picture in sample.pictures])
    engines: dict[Pair, Engine] = {}
    unavailable: list[Unavailable] = []
    prepare_s: dict[Pair, float] = {}
    answers: dict[Pair, np.ndarray] = {}
    with _limited(subject.threads):
        expected = subject.logits(torch_engine.eager(subject, "fp32"), frames)
        for pair in wanted:
            start = time.perf_counter()
            reason = RUNTIMES[pair[0]].missing(pair[1], subject.device)
            if reason is None:
                try:
                    engines[pair] = RUNTIMES[pair[0]].prepare(subject, pair[1])
                    answers[pair] = subject.logits(engines[pair], frames)
                except DataError:
                    raise
                except Exception as error:  # every runtime has its own classes; the others must still be measured
                    engines.pop(pair, None)
                    reason = first_line(error)[:300]
            if reason is not None:
                unavailable.append(Unavailable(*pair, reason))
            prepare_s[pair] = time.perf_counter() - start
        subject.told(f"timing {len(engines)} in turns")
        timings = clock(engines, subject, repeats, max_s)
    measured = tuple(
        Measured(
            **to_dict(timings[pair]),
            threads=subject.threads,
            batch=subject.batch,
            runtime=engine.version,
            precision=pair[1],
            device=_device(subject),
            input=f"uint8 {subject.batch} x {subject.side} x {subject.side} x 3, resized before",
            engine=pair[0],
            size_bytes=engine.size_bytes,
            prepare_s=prepare_s[pair],
            **_answered(answers[pair], expected, sample),
        )
        for pair, engine in engines.items()
    )
    best = choose(measured, max_drop)
    return Comparison(measured, tuple(unavailable), best, rule(measured, max_drop))


def choose(measured: Sequence[Measured], max_drop: float = MAX_DROP) -> Measured | None:
    """The fastest of those that are accurate enough; None where none is.

    Accurate enough: an accuracy at most max_drop (a share: 0.01 is a point) below eager fp32's; where there are no
    labels, at least 1 - max_drop of the pictures with its class. Fastest: the least median processor time on one
    thread of the processor, which other processes hardly change; else the least median wall time. A precision
    below fp32 has to be 3 % faster than the fastest fp32, or it is not worth what it does to unseen pictures.
    """
    fine = [m for m in measured if lost(m) <= max_drop + 1e-9]
    if not fine:
        return None
    fastest = min(fine, key=cost_ms)
    whole = min((m for m in fine if m.precision == "fp32"), key=cost_ms, default=None)
    if whole is not None and cost_ms(fastest) > (1 - MARGIN) * cost_ms(whole):
        return whole
    return fastest


def lost(m: Measured) -> float:
    """What max_drop is held against."""
    return 1 - m.agreement if m.drop is None else m.drop


def cost_ms(m: Measured) -> float:
    """What choose compares."""
    return m.cpu_ms if _by_cpu(m) else m.median_ms


def _by_cpu(m: Measured) -> bool:
    return m.threads == 1 and not m.device.startswith(CUDA)


def rule(measured: Sequence[Measured], max_drop: float = MAX_DROP) -> str:
    """How choose() decided, in words."""
    if not measured:
        return "nothing was measured"
    m = measured[0]
    fast = "least processor time" if _by_cpu(m) else "least wall time"
    if m.drop is None:
        kept = f"at least {1 - max_drop:.1%} of {m.pictures} pictures ({m.pictures_of}) with the class of eager fp32"
    else:
        kept = f"accuracy at most {100 * max_drop:g} points below eager fp32 on {m.pictures} pictures ({m.pictures_of})"
    return f"{fast}; {kept}; lower precisions only where {MARGIN:.0%} faster than fp32"


def clock(engines: Mapping[Pair, Engine], subject: Subject, repeats: int, max_s: float) -> dict[Pair, Timing]:
    """Timings of all, taken in turns."""
    rng, side = np.random.default_rng(0), subject.side
    # noise, not zeros: with zeros some networks fall into slow denormal numbers
    pictures = rng.integers(0, 256, (subject.batch, side, side, 3), dtype=np.uint8)
    wall_s: dict[Pair, list[float]] = {pair: [] for pair in engines}
    cpu_s: dict[Pair, list[float]] = {pair: [] for pair in engines}
    for engine in engines.values():
        for _ in range(WARMUP):
            engine.run(pictures)
    start = time.perf_counter()
    order = list(engines)
    n = 0
    while engines and (n < MIN_REPEATS or (n < repeats and time.perf_counter() - start < max_s)):
        for i in rng.permutation(len(order)):
            run = engines[order[i]].run
            run(pictures)  # its weights come back into the caches, as when it serves alone
            cpu, wall = time.process_time(), time.perf_counter()
            run(pictures)
            wall_s[order[i]].append(time.perf_counter() - wall)
            cpu_s[order[i]].append(time.process_time() - cpu)
        n += 1
    made = {}
    for pair in engines:
        p10, p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(wall_s[pair], (10, 50, 90, 99)))
        made[pair] = Timing(p50, p10, p90, p99, float(np.median(cpu_s[pair])) * 1e3, n, WARMUP)
    return made


def generated(count: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Smooth random pictures of many sizes and shapes: uint8 (H, W, 3), always the same."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype=np.uint8)
        width, height = (int(side) for side in rng.integers(40, 500, 2))
        found.append(np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)))
    return found


def _answered(logits: np.ndarray, expected: np.ndarray, sample: Sample) -> dict[str, Any]:
    """Agreement and accuracy. A row that is not finite is a wrong answer."""
    sound = np.isfinite(logits).all(1)
    guess, reference = logits.argmax(1), expected.argmax(1)
    facts: dict[str, Any] = {"pictures": len(logits), "pictures_of": sample.name, "accuracy": None, "drop": None}
    if sample.labels is not None:
        facts["accuracy"] = float((sound & (guess == sample.labels)).mean())
        facts["drop"] = float((reference == sample.labels).mean()) - facts["accuracy"]
    return facts | {"agreement": float((sound & (guess == reference)).mean())}


def _device(subject: Subject) -> str:
    return f"{CUDA}{torch.cuda.get_device_name()}" if subject.device == "cuda" else device_name()


@contextlib.contextmanager
def _limited(threads: int) -> Iterator[None]:
    """torch with so many threads; the other runtimes are told when they are made ready."""
    if threads < 1:
        raise ConfigError(f"threads = {threads}: at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if "torch._dynamo" in sys.modules:  # what was compiled for this comparison
            torch.compiler.reset()
