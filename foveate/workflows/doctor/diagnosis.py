"""What holds training back, measured.

Every number comes from short runs of the training loop itself, the forms visited in turn, so that another job on the
machine falls on all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from foveate.config import replace
from foveate.data.load import Batch, Pictures, fits_in_memory
from foveate.report.units import percent
from foveate.runs.plan import Plan
from foveate.train.recipe import Augment, Mix, Recipe

ROUNDS, MOST_S = 3, 60.0
GAIN = 0.05  # a change that saves less of a step is none
PICTURES = 32  # of a batch that is timed, at most: a step of a large batch takes as long a picture


@dataclass(frozen=True)
class Form:
    """A way to do the same training step."""

    change: str  # a change of the recipe as on the command line; "" is the form that is used now
    seconds: float  # of a step: batch ready to weights changed
    n: int


@dataclass(frozen=True)
class Times:
    """What was measured of a training step."""

    forms: tuple[Form, ...]  # of the step, the one in use first
    batch: int
    size: int  # pixels
    resident: bool  # the pictures are kept in memory
    data_s: float  # a batch read and decoded, alone
    augment_s: float  # the same batch augmented and mixed, alone
    both_s: float  # as training runs: decoding ahead in threads
    first_read_s: float = 0.0  # resident: decoding everything once, estimated from one batch

    @property
    def step_s(self) -> float:
        """Forward, loss, backward, update with a batch that is there, in the form in use."""
        return self.forms[0].seconds

    @property
    def total_s(self) -> float:
        """A whole step, data and all."""
        return max(self.both_s, self.step_s)


@dataclass(frozen=True)
class Advice:
    """A change of the recipe, and what it is worth."""

    text: str = "no change that was measured helps by 5 % or more"
    change: str = ""  # recipe override to paste; "" where nothing helps
    gain: float = 0.0  # share of the whole step that it saves, measured


@dataclass(frozen=True)
class Diagnosis:
    """Where the time of a training step goes, and the change that helps most. The fields are those of Times."""

    batch: int
    size: int
    resident: bool
    data_s: float
    augment_s: float
    step_s: float
    both_s: float
    bound: Literal["data", "compute"]
    forms: tuple[Form, ...]
    advice: str
    change: str
    gain: float
    first_read_s: float = 0.0

    @property
    def data_share(self) -> float:
        """Share of a step's time that goes for data, were nothing done at the same time."""
        return (self.data_s + self.augment_s) / max(self.data_s + self.augment_s + self.step_s, 1e-12)


def diagnose(
    data: str | Path,
    model: str,
    *,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    follow_links: bool = False,
    most_s: float = MOST_S,
    told: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Measure what bounds training of a model on data: a few steps of each form, `most_s` seconds or a little more.

    Raises ConfigError or DataError as train would.
    """
    from foveate.data.sample import store_side
    from foveate.runs.plan import prepare
    from foveate.runs.setup import stored_pictures

    plan, dataset = prepare(data, model, recipe=recipe, overrides=overrides, device=device, follow_links=follow_links)
    side = store_side(plan.recipe.resolution or plan.preprocess.resolution, dataset)
    pictures = stored_pictures(dataset.splits["train"], plan, side)
    return diagnosed(plan, pictures, len(dataset.classes), most_s=most_s, told=told)


def diagnosed(
    plan: Plan, pictures: Pictures, classes: int, *, most_s: float = MOST_S, told: Callable[[str], None] | None = None
) -> Diagnosis:
    """diagnose() of a plan and pictures that are there, decoded at every reading."""
    import torch

    from foveate.train import step

    say = told or (lambda text: None)
    recipe = settled(plan)
    size = recipe.resolution or plan.preprocess.resolution
    batch = min(recipe.batch, PICTURES, len(pictures))
    resident = pictures.crop is None and fits_in_memory(len(pictures), pictures.side)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    try:
        say("reading and augmenting one batch")
        ways = {"": recipe, **dict(alternatives(recipe, plan))}
        reads = [_timed(partial(_read, pictures, batch, i)) for i in range(ROUNDS)]
        item: Batch = reads[-1][1]
        task = step.Task(recipe, plan.preprocess, classes, len(pictures.split))
        whole = slice(0, len(item.labels))
        place = torch.device(plan.device)
        shows = [
            _timed(lambda: step.pictures(item, whole, step.Moment(0, 0, 1.0), task, place)) for _ in range(ROUNDS + 1)
        ]
        read_s = min(s for s, _ in reads)
        augment_s = statistics.median(s for s, _ in shows[1:])
        say(f"training steps of {len(item.labels)} pictures in {len(ways)} forms")
        forms = _forms(ways, plan, classes, item, len(pictures.split), most_s)
        say("training as it runs, data and steps together")
        ahead = _both(plan, recipe, pictures, classes, item, resident)
    finally:
        torch.random.set_rng_state(before)
        torch.set_num_threads(threads)
    data_s = 0.0 if resident else read_s
    times = Times(
        forms=forms,
        batch=len(item.labels),
        size=size,
        resident=resident,
        data_s=data_s,
        augment_s=augment_s,
        both_s=ahead,
        first_read_s=read_s / batch * len(pictures) if resident else 0.0,
    )
    return conclude(times, recipe)


def settled(plan: Plan) -> Recipe:
    """The plan's recipe in the form that training would take, its batch in one part."""
    import torch

    from foveate.runs.setup import apply_folding, settle_folding
    from foveate.train.form import settle

    recipe = settle_folding(plan.recipe, plan.architecture)
    size, network = recipe.resolution or plan.preprocess.resolution, apply_folding(plan.architecture, recipe)
    return replace(settle(network, recipe, size, torch.device(plan.device)), parts=1)


def alternatives(recipe: Recipe, plan: Plan) -> Iterator[tuple[str, Recipe]]:
    """(change, changed recipe): another precision, another layout, both, other numbers of threads."""
    import torch

    from foveate.cost.latency import cores_here
    from foveate.train.form import has_bf16

    others = ["fp32", "bf16"] if has_bf16(torch.device(plan.device)) else ["fp32"]
    for precision in dict.fromkeys((recipe.precision, *others)):
        for layout in dict.fromkeys((recipe.layout, "nchw", "nhwc")):
            parts = [f"precision={precision}"] if precision != recipe.precision else []
            parts += [f"layout={layout}"] if layout != recipe.layout else []
            if parts:
                yield " ".join(parts), replace(recipe, precision=precision, layout=layout)
    if plan.device == "cpu":
        now = recipe.threads or torch.get_num_threads()
        for count in sorted({1, cores_here()} - {now}):
            yield f"threads={count}", replace(recipe, threads=count)


def conclude(times: Times, recipe: Recipe) -> Diagnosis:
    """What the measured times mean."""
    waits = times.data_s + times.augment_s > times.step_s
    advice = advise_on_data(times, recipe) if waits else Advice()
    fastest = min(times.forms, key=lambda form: form.seconds)
    saved = (times.step_s - fastest.seconds) / times.total_s
    if fastest.change and saved >= GAIN and saved > advice.gain:
        share = f"{percent(fastest.seconds / times.step_s)} %"
        advice = Advice(f"with {fastest.change} a step takes {share} of the time", fastest.change, saved)
    return Diagnosis(
        batch=times.batch,
        size=times.size,
        resident=times.resident,
        data_s=times.data_s,
        augment_s=times.augment_s,
        step_s=times.step_s,
        both_s=times.both_s,
        bound="data" if waits else "compute",
        forms=times.forms,
        advice=advice.text,
        change=advice.change,
        gain=advice.gain,
        first_read_s=times.first_read_s,
    )


def advise_on_data(times: Times, recipe: Recipe) -> Advice:
    """What makes reading or augmenting quicker, whichever takes longer."""
    if times.data_s >= times.augment_s:
        gain = max(0.0, 1 - (times.step_s + times.augment_s) / times.total_s)
        if recipe.decode == "exact":
            return Advice(
                "training waits for pictures: let large JPEGs be decoded at a fraction", "decode=scaled", gain
            )
        return Advice("training waits for pictures to be decoded; store them as JPEGs near the training size", "", gain)
    change = "augment.policy=none" if recipe.augment.policy != "none" else ""
    gain = max(0.0, 1 - times.step_s / times.total_s)
    return Advice("training waits for augmentation; a lighter policy would free it", change, gain)


def _forms(
    ways: Mapping[str, Recipe], plan: Plan, classes: int, item: Batch, samples: int, most_s: float
) -> tuple[Form, ...]:
    """Each form's step, visited in turn; a form that is far behind after one visit is not visited again."""
    steppers = {change: _Stepper(recipe, plan, classes, samples) for change, recipe in ways.items()}
    begun = time.monotonic()
    for stepper in steppers.values():
        stepper(item)  # warm-up
    spent: dict[str, list[float]] = {change: [] for change in ways}
    for number in range(ROUNDS):
        best = min((min(s) for s in spent.values() if s), default=float("inf"))
        for change, stepper in steppers.items():
            if number and (time.monotonic() - begun > most_s or (change and min(spent[change]) > 2 * best)):
                continue
            spent[change].append(stepper(item))
    return tuple(Form(change, statistics.median(s), len(s)) for change, s in spent.items())


class _Stepper:
    """A network and an optimiser of its own; a call is one training step on a batch. whole: with augmentation."""

    def __init__(self, recipe: Recipe, plan: Plan, classes: int, samples: int, *, whole: bool = False):
        import torch

        from foveate.runs.setup import apply_folding, make_state, settle_folding
        from foveate.train.step import Task

        recipe = replace(recipe, loss=replace(recipe.loss, teacher=""))
        if not whole:
            recipe = replace(recipe, augment=Augment(flip=False), mix=Mix())
        config = plan.architecture
        recipe = settle_folding(recipe, config)
        self.recipe, self.threads = recipe, recipe.threads or torch.get_num_threads()
        self.state = make_state(apply_folding(config, recipe), recipe, plan.device)
        self.task = Task(recipe, plan.preprocess, classes, samples)

    def __call__(self, item: Batch) -> float:
        """Seconds of one step."""
        import torch

        from foveate.train.loop import update
        from foveate.train.step import Moment, gradient

        torch.set_num_threads(self.threads)
        self.state.model.train()
        begun = time.perf_counter()
        self.state.optimizer.zero_grad(set_to_none=True)
        gradient(self.state, item, Moment(0, 0, 1.0), self.task)
        update(self.state, self.recipe, last=False)
        if self.state.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun


def _both(plan: Plan, recipe: Recipe, pictures: Pictures, classes: int, item: Batch, resident: bool) -> float:
    """Seconds a step as training runs: the next batches are decoded by threads while a step is computed."""
    stepper = _Stepper(recipe, plan, classes, len(pictures.split), whole=True)
    count = len(item.labels)
    batches = iter([item] * (ROUNDS + 1)) if resident else _endless(pictures, recipe.seed, count)
    stepper(next(batches))
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        stepper(next(batches))
    return (time.perf_counter() - begun) / ROUNDS


def _endless(pictures: Pictures, seed: int, batch: int) -> Iterator[Batch]:
    """Batches decoded ahead by two threads, as the engine reads them, epoch after epoch."""
    epoch = 0
    while True:
        yield from pictures.epoch(seed, epoch, batch, workers=2)
        epoch += 1


def _read(pictures: Pictures, batch: int, number: int) -> Batch:
    """The number-th batch of an epoch, decoded now."""
    return next(pictures.epoch(0, 0, batch, number % pictures.steps(batch)))


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    out = run()
    return time.perf_counter() - begun, out
