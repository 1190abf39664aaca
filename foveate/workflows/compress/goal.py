"""What a compression is asked for: the record, made from the arguments and brought to absolute numbers."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from foveate.compress.schedule import floor
from foveate.config import from_dict, parse_json, record, replace
from foveate.errors import BudgetError, ConfigError
from foveate.runs.plan import Budget, Plan
from foveate.train.artefact import ModelCard
from foveate.workflows.compress.costs import amount, channels_at_once, cost_of, extra_bytes, make_yardstick
from foveate.zoo.family import Config

INT8_METHOD = "int8"  # the one method that leaves the widths as they are
ROOM = 0.5  # widths are multiples where the smallest such network costs at most this share of the target
STEP = 0.7  # a step costs about this share of the one above


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
    multiple: int = 1  # widths become multiples of it; 0 in what make_goal gives: still to be settled
    allow_slower: bool = False  # whether a step may be chosen that takes longer than the original
    split_seed: int = 0  # of the data


def make_goal(
    targets: Mapping[str, float | None],
    max_drop: float | None,
    method: str,
    steps: int,
    rounds: int,
    multiple: int | None = None,
    allow_slower: bool = False,
) -> Goal:
    """The goal that the arguments of compress() state; ConfigError where they state none or two, or nonsense."""
    given = [kind for kind, value in targets.items() if value is not None]
    if len(given) > 1 or (not given and max_drop is None):
        raise ConfigError(
            f"{len(given)} targets given; take one of --macs, --params, --max-latency, --max-size, or --max-drop alone"
        )
    if method == INT8_METHOD and (targets.get("macs") is not None or targets.get("params") is not None):
        raise ConfigError("int8 has as many multiply-adds and parameters; give --max-latency, --max-size or --max-drop")
    kind, target = (given[0], float(targets[given[0]] or 0)) if given else ("macs", None)
    if (target is not None and not target > 0) or (max_drop is not None and not max_drop >= 0):
        raise ConfigError(f"target {target}, max_drop {max_drop}: a target above 0, and a drop of at least 0")
    if not (0 <= steps <= 100 and 1 <= rounds <= 100 and (multiple is None or 1 <= multiple <= 256)):
        raise ConfigError(f"steps {steps}, rounds {rounds}, multiple {multiple}: 0 to 100, 1 to 100 and 1 to 256")
    return Goal("", kind, target, method, max_drop, steps, rounds, multiple or 0, allow_slower)


def read_goal(folder: Path) -> Goal:
    """compress.json of a run."""
    path = folder / "compress.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no compress.json here; expected a run folder that foveate compress made")
    goal: Goal = from_dict(Goal, parse_json(path.read_bytes(), str(path)))
    return goal


def resolve_goal(goal: Goal, card: ModelCard, plan: Plan) -> Goal:
    """The goal in absolute numbers: a share of the original's becomes one, and the multiple of the widths is settled.
    BudgetError below what is reachable.
    """
    measure = cost_of(goal.kind, plan, extra_bytes(goal.kind, plan), make_yardstick(plan, lambda: None))
    if goal.target is None:
        return replace(goal, multiple=goal.multiple or settle_multiple(card.architecture, goal.kind, measure, math.inf))
    whole, target = measure(card.architecture), goal.target
    if goal.kind in ("macs", "params") and target <= 1:
        target = target * whole
    goal = replace(goal, multiple=goal.multiple or settle_multiple(card.architecture, goal.kind, measure, target))
    least = measure(floor(card.architecture, goal.multiple))
    if target < least:
        raise BudgetError(
            f"{amount(goal.kind, target)} ({target / whole:.3g} of the original's {amount(goal.kind, whole)}) is below "
            f"what {plan.model} can shrink to by its widths: {amount(goal.kind, least)} ({least / whole:.3g}), with "
            f"one unit left in every layer; ask for more, or begin with a smaller model"
        )
    return replace(goal, target=target, steps=goal.steps or steps_to(target / whole))


def settle_multiple(architecture: Config, kind: str, measure: Callable[[Config], float], target: float) -> int:
    """What widths become multiples of: as many channels as the runtime takes at once, fewer where a network is too
    narrow for it. At 0.6 of the multiply-adds and with widths as they come, an EfficientNet-Lite0 takes 1.6 times as
    long in ONNX Runtime, and with multiples of 16 0.61 times. A size asks for none: bytes have no blocks.
    """
    if kind == "size_bytes":
        return 1
    block = channels_at_once()
    if kind == "latency_ms":
        return block
    goal = min(target, measure(architecture))
    blocks = (block >> halvings for halvings in range(block.bit_length()))
    return next((b for b in blocks if measure(floor(architecture, b)) <= ROOM * goal), 1)


def budget_of(goal: Goal, budget: Budget) -> Budget:
    """The limits as the report knows them."""
    value = goal.target
    return replace(
        budget,
        max_latency_ms=value if goal.kind == "latency_ms" else None,
        max_size_bytes=int(value) if value is not None and goal.kind == "size_bytes" else None,
        max_macs=int(value) if value is not None and goal.kind == "macs" else None,
    )


def steps_to(share: float) -> int:
    """How many steps make a cost `share` of what it is, each about STEP of the one above."""
    return max(1, math.ceil(math.log(min(0.999, share)) / math.log(STEP) - 1e-9))
