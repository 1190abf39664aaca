"""compress: a trained model and a budget in, a ladder of smaller nets out, the best that fits chosen.

Every rung is a model folder: made from the one above, fine-tuned, measured. A run that was stopped goes on from the
last finished one.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.compress.gates import coupling_of
from foveate.compress.schedule import floor
from foveate.config import from_dict, parse_json, replace, to_dict, to_json
from foveate.cost.count import cost
from foveate.cost.latency import MIN_REPEATS
from foveate.data.index import Dataset, open_data
from foveate.data.load import evaluation_pictures
from foveate.deploy.beside import Yardstick
from foveate.errors import BudgetError, ConfigError, DataError
from foveate.files import folder_lock, free_name, sweep, write_folder, write_json, write_text
from foveate.finish import INT8 as FILE
from foveate.finish import finish
from foveate.ladder import MOST, amount, choose, fits, floats, next_goal, rungs_to
from foveate.pace import END_S
from foveate.pictures import recipe_name
from foveate.plan import Budget, Plan, check_runtime, command_line
from foveate.recipes import RECIPES
from foveate.run import Run, announce, environment, make_job, read, silent
from foveate.rung import Bench, Goal, climb, make_method, pick_method, read_goal, rungs, tuning
from foveate.rung_int8 import METHOD as INT8
from foveate.rung_int8 import missing, quantise_rung, try_int8
from foveate.train.artefact import ModelCard, read_card
from foveate.train.checkpoint import Progress
from foveate.train.engine import Listener
from foveate.train.probe import probe, settle
from foveate.train.recipe import Recipe
from foveate.train.signals import Stop, stop_on_signals
from foveate.zoo import build, config_from

EPOCHS = 10  # of fine-tuning a rung
SLACK_BYTES = 1024  # by which the final file may be larger than foretold: its graph and its config are text
TAUGHT = 1.5  # seconds of a distilled training step, with its optimiser, over those of a plain one


def compress(
    model: str | Path,
    data: str | Path,
    *,
    macs: float | None = None,
    params: float | None = None,
    max_latency_ms: float | None = None,
    max_size_bytes: int | None = None,
    max_drop: float | None = None,
    method: str = "auto",
    epochs: int | None = None,
    time_s: float | None = None,
    steps: int = 0,
    rounds: int = 1,
    multiple: int | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: str | Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    bad_files: Literal["stop", "skip"] = "stop",
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    listener: Listener | None = None,
) -> Run:
    """Shrink a trained model of the zoo step by step, fine-tune and measure each step, and finish the best that fits.

    model: a model folder. macs, params: a share of the original's (up to 1) or a number. max_latency_ms: median of the
    exported model in `runtime` on this device; max_size_bytes: its file. At most one of these four; max_drop, points
    of validation accuracy, alone or with one of them. method: a call of METHODS; auto compares the cheap ones first.
    epochs: of fine-tuning a step (10); time_s: wall time in place of it. steps: rungs (each about 0.7 of the one
    above). rounds: of pruning in a step. multiple: widths become multiples of it; None: of what the processor
    takes at once for a latency, else of 1. resume: a run folder; everything else comes from it.
    Raises BudgetError with the floor, ConfigError, DataError, Interrupted.
    """
    listener = listener or silent
    check_runtime(runtime)
    if method == INT8 and (reason := missing(runtime)) is not None:
        raise ConfigError(f"--method int8: {reason}")
    with stop_on_signals() as stop:
        if resume is not None:
            folder, goal = Path(resume), read_goal(Path(resume))
            plan: Plan = from_dict(Plan, parse_json((folder / "recipe.json").read_bytes(), str(folder / "recipe.json")))
            dataset = announce(open_data(plan.data, seed=goal.split_seed, bad_files=plan.bad_files), listener)
            if dataset.fingerprint != plan.fingerprint:
                raise DataError(f"{plan.data}: the pictures changed since the run began; start a new run")
        else:
            targets = {"macs": macs, "params": params, "latency_ms": max_latency_ms, "size_bytes": max_size_bytes}
            goal = asked(targets, max_drop, method, steps, rounds, multiple)
            card, goal, base = origin(model, goal, seed)
            dataset = announce(open_data(data, seed=goal.split_seed, bad_files=bad_files), listener)
            check_data(card, dataset, data, listener)
            plan = first_plan(card, str(data), dataset, threads, bad_files)
            plan = replace(plan, budget=Budget(runtime=runtime, time_s=time_s))
            goal = reachable(goal, card, plan)
            recipe = tuning(base or RECIPES[recipe_name(dataset, None)], epochs or EPOCHS, goal.source, seed)
            recipe = in_time(recipe, card, goal, len(dataset.splits["train"]), time_s if epochs is None else None)
            plan = replace(plan, recipe=recipe, budget=budget_of(goal, plan.budget))
            folder = free_name(runs, name or dataset.name)
            write_json(folder / "compress.json", goal)
            write_json(folder / "recipe.json", plan)
            write_json(folder / "env.json", environment())
        with folder_lock(folder):
            sweep(folder)
            return down(bench_of(folder, goal, plan, dataset, listener, stop))


def asked(
    targets: Mapping[str, float | None],
    max_drop: float | None,
    method: str,
    steps: int,
    rounds: int,
    multiple: int | None = None,
) -> Goal:
    """The goal that the arguments state; ConfigError where they state none or two."""
    given = [kind for kind, value in targets.items() if value is not None]
    if len(given) > 1 or (not given and max_drop is None):
        raise ConfigError(
            f"{len(given)} targets given; take one of --macs, --params, --max-latency, --max-size, or --max-drop alone"
        )
    if method not in ("auto", INT8):
        make_method(method)
    if method == INT8 and (targets.get("macs") is not None or targets.get("params") is not None):
        raise ConfigError("int8 has as many multiply-adds and parameters; give --max-latency, --max-size or --max-drop")
    kind, target = (given[0], float(targets[given[0]] or 0)) if given else ("macs", None)
    if (target is not None and not target > 0) or (max_drop is not None and not max_drop >= 0):
        raise ConfigError(f"target {target}, max_drop {max_drop}: a target above 0, and a drop of at least 0")
    if multiple is None:
        multiple = channels_at_once() if kind == "latency_ms" else 1
    if not (0 <= steps <= 100 and 1 <= rounds <= 100 and 1 <= multiple <= 256):
        raise ConfigError(f"steps {steps}, rounds {rounds}, multiple {multiple}: 0 to 100, 1 to 100 and 1 to 256")
    return Goal("", kind, target, method, max_drop, steps, rounds, multiple)


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
        listener("warning", {"text": text})


def first_plan(card: ModelCard, data: str, dataset: Dataset, threads: int | None, bad_files: Any) -> Plan:
    """The plan of a run, its recipe still open."""
    return Plan(
        data=data,
        model=str(card.provenance.get("model") or card.architecture.family),
        architecture=to_dict(card.architecture),
        recipe=Recipe(),
        preprocess=card.preprocess,
        bad_files=bad_files,
        threads=threads or torch.get_num_threads(),
        fingerprint=dataset.fingerprint,
        command=command_line(),
    )


def yardstick_of(plan: Plan, ms: Callable[[], float | None]) -> Callable[[], Yardstick]:
    """The original to time others beside, made when it is first asked for. ms: its latency; None: measured then."""

    @functools.cache
    def made() -> Yardstick:
        model = build(config_from(plan.architecture, "architecture"))
        return Yardstick(model, plan.preprocess, plan.threads or 1, plan.budget.runtime, ms())

    return made


def cost_of(kind: str, plan: Plan, extra_bytes: int, yardstick: Callable[[], Yardstick]) -> Callable[[Any], float]:
    """What a config costs. A latency and a size are measured, on the exported network with random weights; a latency
    beside the original's, so that it means the same however busy the machine is.
    """
    preprocess = plan.preprocess

    def latency_ms(config: Any) -> float:
        return yardstick().time(build(config), MIN_REPEATS).median_ms

    def size_bytes(config: Any) -> float:
        from foveate.deploy.export import export_for_timing

        return float(len(export_for_timing(build(config), preprocess)) + extra_bytes + SLACK_BYTES)

    def counted(config: Any) -> float:
        return float(getattr(cost(config, resolution=preprocess.resolution), kind))

    return {"latency_ms": latency_ms, "size_bytes": size_bytes}.get(kind, counted)


def extra_bytes(goal: Goal, plan: Plan) -> int:
    """By how much the final file is larger than the one that is quick to make, where the size counts. It hangs on the
    layers, not on their widths.
    """
    from foveate.deploy.export import export_for_timing, export_onnx

    if goal.kind != "size_bytes":
        return 0
    config = config_from(plan.architecture, "architecture")
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
    return replace(goal, target=target, steps=goal.steps or rungs_to(target / whole))


def in_time(recipe: Recipe, card: ModelCard, goal: Goal, pictures: int, time_s: float | None) -> Recipe:
    """The recipe with precision, layout and threads settled, and as many epochs as the time allows, where one is
    given.
    """
    size, device = recipe.resolution or card.preprocess.resolution, torch.device("cpu")
    recipe, _ = settle(card.architecture, recipe, size, device)
    if time_s is None:
        return recipe
    image_s = min(t.image_s for t in probe(card.architecture, recipe, size, device))
    epoch_s = pictures * image_s * TAUGHT
    return replace(recipe, epochs=max(1, min(200, int((time_s - END_S) / (goal.steps or MOST) / epoch_s))))


def budget_of(goal: Goal, budget: Budget) -> Budget:
    """The limits as the report knows them."""
    value = goal.target
    return replace(
        budget,
        max_latency_ms=value if goal.kind == "latency_ms" else None,
        max_size_bytes=int(value) if value is not None and goal.kind == "size_bytes" else None,
        max_macs=int(value) if value is not None and goal.kind == "macs" else None,
    )


def bench_of(folder: Path, goal: Goal, plan: Plan, dataset: Dataset, listener: Listener, stop: Stop) -> Bench:
    """The pictures of a run and what all its rungs share."""
    config = config_from(plan.architecture, "recipe.json: architecture")
    job = make_job(plan, config, dataset, listener)
    split = dataset.splits["test" if "test" in dataset.splits else "val"]
    test = read(evaluation_pictures(split, plan.preprocess), plan.bad_files, listener)
    extra = extra_bytes(goal, plan)
    yardstick = yardstick_of(plan, lambda: float(rungs(folder)[0]["latency_ms"]))
    measure = functools.lru_cache(maxsize=256)(cost_of(goal.kind, plan, extra, yardstick))
    return Bench(folder, goal, plan, dataset, job, test, measure, yardstick, extra, listener, stop)


def down(bench: Bench) -> Run:
    """All rungs that are missing, then the end of the run."""
    rows, method = rungs(bench.folder), bench.goal.method
    begun = time.monotonic()
    if not rows:
        rows = [climb(bench, 0, "original", None)]
    if method == INT8 and len(rows) == 1:
        rows.append(quantise_rung(bench, rows[-1], 1))
    while not out_of_time(bench, rows) and (goal := next_goal(bench, rows)) is not None:
        if (quick := try_int8(bench, rows)) is not None:
            rows.append(quick)
            continue
        if method == "auto":
            known = [row["method"] for row in floats(rows)[1:]]
            method = known[0] if known else pick_method(bench, goal)
        rows.append(climb(bench, len(rows), method, goal))
        told = f"val {100 * rows[-1]['val_accuracy']:.1f} % (original {100 * rows[0]['val_accuracy']:.1f} %)"
        bench.listener("stage", {"text": f"step {len(rows) - 1}: {amount('macs', rows[-1]['macs'])} · {told}"})
        bench.stopped()
    return conclude(bench, rows, time.monotonic() - begun)


def out_of_time(bench: Bench, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the time is over for one more rung like the last one. A target that was asked for is gone for anyway."""
    limit = bench.plan.budget.time_s
    if limit is None or bench.goal.target is not None or len(rows) < 2:
        return False
    return sum(float(row["seconds"]) for row in rows) + float(rows[-1]["seconds"]) > limit - END_S


def conclude(bench: Bench, rows: Sequence[Mapping[str, Any]], seconds: float) -> Run:
    """The best rung becomes best/; tested, exported and reported as every run is."""
    folder, goal, number = bench.folder, bench.goal, choose(bench.goal, rows)
    chosen = Path(rows[number]["run"])
    files = ("config.json", "model.safetensors", "README.md")
    write_folder(folder / "best", {name: (chosen / name).read_bytes() for name in files})
    whole, size = rows[0]["macs"], bench.plan.preprocess.resolution
    story = [
        {
            **{key: value for key, value in row.items() if key != "curves"},
            "model": bench.plan.model if i == 0 else f"{bench.plan.model} {row['macs'] / whole:.2f}x",
            "resolution": size,
            "fits": fits(goal, row),
            "chosen": i == number,
        }
        for i, row in enumerate(rows)
    ]
    write_json(folder / "story.json", {"candidates": story})
    curves = rows[number]["curves"]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in curves))
    progress = Progress(rows=list(curves), best_epoch=len(curves), best_accuracy=rows[number]["val_accuracy"])
    int8 = {path.suffix: path.read_bytes() for path in chosen.glob(f"{FILE}.*")} or None
    run = finish(folder, bench.plan, bench.dataset, bench.job, progress, seconds, bench.listener, int8)
    summary = {**run.summary, "ladder": story, "chosen": number, "method": rows[number]["method"]}
    write_json(folder / "summary.json", summary)
    return Run(folder, summary)
