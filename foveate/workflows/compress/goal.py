"""What a compression is asked for: its target, in numbers, and what it costs to be there."""

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.compress.gates import coupling_of
from foveate.compress.schedule import Draw, floor
from foveate.config import from_dict, parse_json, record, replace, to_json
from foveate.cost.count import cost
from foveate.cost.latency import MIN_REPEATS
from foveate.data.index import Dataset
from foveate.data.load import Pictures
from foveate.deploy.beside import Yardstick
from foveate.errors import BudgetError, ConfigError, DataError, Interrupted
from foveate.events import Listener, WarningEvent
from foveate.runs.plan import Budget, Plan
from foveate.train.artefact import ModelCard, read_card
from foveate.train.draw import drawer
from foveate.train.engine import Job
from foveate.train.recipe import Recipe
from foveate.train.signals import Stop, exit_code
from foveate.zoo import build
from foveate.zoo.family import Config


@record
class Goal:
    """compress.json: what the steps are to reach."""

    source: str  # the model folder that it began with
    kind: str = "macs"  # of `target`: macs, params, latency_ms, size_bytes
    target: float | None = None  # None: only max_drop counts
    method: str = "auto"
    max_drop: float | None = None  # points of validation accuracy
    steps: int = 0  # steps; 0: as many as make each about STEP of the one above
    rounds: int = 1  # of pruning in a step, with BETWEEN training steps after each
    multiple: int = 1
    split_seed: int = 0  # of the data


@dataclass
class CompressionRun:
    """What all steps of a run share."""

    folder: Path
    goal: Goal
    plan: Plan
    dataset: Dataset
    job: Job
    test: Pictures
    cost: Callable[[Any], float]  # of a config, in the goal's kind
    yardstick: Callable[[], Yardstick]  # the original, once it was measured
    extra_bytes: int  # of the final file over the one that steps are timed with, where the size counts
    listener: Listener
    stop: Stop

    def draw(self, stream: int) -> Draw:
        """Training batches, augmented: the i-th of a stream."""
        device, recipe = torch.device(self.plan.device), self.plan.recipe
        return drawer(self.job.train, self.plan.preprocess, recipe, len(self.job.classes), device, stream)

    def stopped(self) -> None:
        """Raise Interrupted where a signal came; what is finished is saved."""
        if self.stop.signal:
            text = f"stopped; finished steps are saved; go on with: foveate compress --resume {self.folder}"
            raise Interrupted(text, exit_code(self.stop.signal))


def read_goal(folder: Path) -> Goal:
    """compress.json of a run."""
    path = folder / "compress.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no compress.json here; expected a run folder that foveate compress made")
    goal: Goal = from_dict(Goal, parse_json(path.read_bytes(), str(path)))
    return goal


SLACK_BYTES = 1024  # by which the final file may be larger than foretold: its graph and its config are text


def channels_at_once() -> int:
    """Channels that runtimes on this processor keep in one block: other widths fall back to slower kernels. MobileNets
    with a quarter of the multiply-adds were hardly faster in ONNX Runtime with widths as they came.
    """
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def origin(model: str | Path, goal: Goal, seed: int) -> tuple[ModelCard, Goal, Recipe | None]:
    """The card of a model that can shrink, the goal with where it lies, and the recipe of its run, where it has one."""
    if not isinstance(model, str | Path):
        raise ConfigError(f"model: a {type(model).__name__}; compress takes a model folder such as runs/photos-1/best")
    folder = Path(model)
    folder = folder if (folder / "config.json").exists() or not (folder / "best").exists() else folder / "best"
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{model}: no model folder of foveate (no config.json), so a smaller network can not be built from it; "
            "train one with foveate train or fit, with --weights for public weights"
        )
    card, _ = read_card(folder)
    with torch.device("meta"):
        coupling_of(build(card.architecture))  # says why, where nothing can shrink
    story = folder.parent / "recipe.json"
    first: Plan | None = None
    if story.is_file():
        with contextlib.suppress(ConfigError):  # of another version: the recipe that suits the pictures does as well
            first = from_dict(Plan, parse_json(story.read_bytes(), str(story)))
    split_seed = seed if first is None else first.recipe.seed
    return card, replace(goal, source=str(folder), split_seed=split_seed), None if first is None else first.recipe


def check_data(card: ModelCard, dataset: Dataset, data: str | Path, listener: Listener) -> None:
    """DataError where the classes are not the model's; a warning where the pictures are others than it learnt."""
    if dataset.classes != card.classes:
        other = next(iter(sorted(set(dataset.classes) ^ set(card.classes))), dataset.classes[0])
        raise DataError(f'{data}: its classes are not those of the model ("{other}"); give the data it was trained on')
    if card.provenance.get("fingerprint") not in (None, dataset.fingerprint):
        text = "the model learnt other pictures, or another split of these: test pictures may be among what it has seen"
        listener(WarningEvent(text))


def yardstick_of(plan: Plan, ms: Callable[[], float | None]) -> Callable[[], Yardstick]:
    """The original to time others beside, made when it is first asked for. ms: its latency; None: measured then."""

    @functools.cache
    def made() -> Yardstick:
        model = build(plan.architecture)
        return Yardstick(model, plan.preprocess, plan.threads or 1, plan.budget.runtime, ms())

    return made


def cost_of(kind: str, plan: Plan, extra_bytes: int, yardstick: Callable[[], Yardstick]) -> Callable[[Any], float]:
    """What a config costs. A latency and a size are measured, on the exported network with random weights; a latency
    beside the original's, so that it means the same however busy the machine is.
    """
    preprocess = plan.preprocess

    def latency_ms(config: Config) -> float:
        return yardstick().time(build(config), MIN_REPEATS).median_ms

    def size_bytes(config: Config) -> float:
        from foveate.deploy.export import export_for_timing

        return float(len(export_for_timing(build(config), preprocess)) + extra_bytes + SLACK_BYTES)

    def counted(config: Config) -> float:
        return float(getattr(cost(config, resolution=preprocess.resolution), kind))

    return {"latency_ms": latency_ms, "size_bytes": size_bytes}.get(kind, counted)


def extra_bytes(goal: Goal, plan: Plan) -> int:
    """By how much the final file is larger than the one that is quick to make, where the size counts. It hangs on the
    layers, not on their widths.
    """
    from foveate.deploy.export import export_for_timing, export_onnx

    if goal.kind != "size_bytes":
        return 0
    config = plan.architecture
    model, names = build(config), [str(i) for i in range(config.num_classes)]
    final = export_onnx(model, plan.preprocess, names, metadata={"architecture": to_json(config)})  # as finish writes
    return len(final) - len(export_for_timing(model, plan.preprocess))


def reachable(goal: Goal, card: ModelCard, plan: Plan) -> Goal:
    """The goal in absolute numbers: a share of the original's becomes one. BudgetError below what is reachable."""
    if goal.target is None:
        return goal
    measure = cost_of(goal.kind, plan, extra_bytes(goal, plan), yardstick_of(plan, lambda: None))
    whole, target = measure(card.architecture), goal.target
    if goal.kind in ("macs", "params") and target <= 1:
        target = target * whole
    least = measure(floor(card.architecture, goal.multiple))
    if target < least:
        raise BudgetError(
            f"{amount(goal.kind, target)} ({target / whole:.3g} of the original's {amount(goal.kind, whole)}) is below "
            f"what {plan.model} can shrink to by its widths: {amount(goal.kind, least)} ({least / whole:.3g}), with "
            f"one unit left in every layer; ask for more, or begin with a smaller model"
        )
    return replace(goal, target=target, steps=goal.steps or steps_to(target / whole))


def budget_of(goal: Goal, budget: Budget) -> Budget:
    """The limits as the report knows them."""
    value = goal.target
    return replace(
        budget,
        max_latency_ms=value if goal.kind == "latency_ms" else None,
        max_size_bytes=int(value) if value is not None and goal.kind == "size_bytes" else None,
        max_macs=int(value) if value is not None and goal.kind == "macs" else None,
    )


STEP = 0.7  # a step costs about this share of the one above


def steps_to(share: float) -> int:
    """How many steps make a cost `share` of what it is, each about STEP of the one above."""
    return max(1, math.ceil(math.log(min(0.999, share)) / math.log(STEP) - 1e-9))


def amount(kind: str, value: float) -> str:
    """A cost with its unit."""
    forms = {"macs": (1e6, "M multiply-adds"), "params": (1e3, "k parameters"), "size_bytes": (1e3, "kB")}
    factor, unit = forms.get(kind, (1.0, "ms"))
    return f"{value / factor:.4g} {unit}"
