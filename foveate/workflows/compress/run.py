"""compress: a trained model and a budget in, smaller nets step by step out, the best that fits chosen.

Every step is a model folder: made from the one above, fine-tuned, measured. A run that was stopped goes on from the
last finished one.
"""

import contextlib
import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.config import from_dict, parse_json, replace
from foveate.data.index import Dataset, open_data
from foveate.data.load import evaluation_pictures
from foveate.errors import ConfigError, DataError
from foveate.events import Listener, StageEvent, WarningEvent
from foveate.files import check_writable, folder_lock, free_name, sweep, write_folder, write_json, write_text
from foveate.recipes import RECIPES
from foveate.report.progress import hear
from foveate.runs.defaults import recipe_name
from foveate.runs.epochs import count_epochs
from foveate.runs.finish import INT8, finish
from foveate.runs.plan import Budget, Plan, check_runtime, command_line
from foveate.runs.request import read_spent, write_spent
from foveate.runs.resume import finished
from foveate.runs.run import Run, announce, environment
from foveate.runs.setup import make_job, read
from foveate.runs.time_budget import END_S, END_SHARE, TimeBudget
from foveate.runs.training import Trained
from foveate.train.artefact import ModelCard
from foveate.train.checkpoint import Progress
from foveate.train.form import settle
from foveate.train.probe import time_step
from foveate.train.recipe import Recipe
from foveate.train.signals import Stop, resumable, stop_on_signals
from foveate.workflows.compress.compression_run import CompressionRun
from foveate.workflows.compress.costs import amount, cost_of, extra_bytes, make_yardstick
from foveate.workflows.compress.goal import INT8_METHOD, Goal, budget_of, make_goal, read_goal, resolve_goal
from foveate.workflows.compress.int8 import quantise_step, try_int8, why_missing
from foveate.workflows.compress.methods import make_method, pick_method
from foveate.workflows.compress.source import check_data, read_source
from foveate.workflows.compress.step import make_step, step_rows
from foveate.workflows.compress.targets import MOST, choose, fits, float_steps, next_goal, slower
from foveate.workflows.compress.tuning import tuning_recipe

EPOCHS, MOST_EPOCHS = 10, 200  # of fine-tuning a step: without a time, and the most that a time gives
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
    allow_slower: bool = False,
    name: str | None = None,
    runs: str | Path = "runs",
    folder: Path | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Shrink a trained model of the zoo step by step, fine-tune and measure each step, and finish the best that fits.

    model: a model folder. macs, params: a share of the original's (up to 1) or a number. max_latency_ms: median of the
    exported model in `runtime` on this device; max_size_bytes: its file. At most one of these four; max_drop, points
    of validation accuracy, alone or with one of them. method: a call of METHODS; auto compares the cheap ones first.
    epochs: of fine-tuning a step (10); time_s: wall time in place of it. steps: steps (each about 0.7 of the one
    above). rounds: of pruning in a step. multiple: widths become multiples of it; None: of what the runtime takes at
    once (16 or 8), of less in a narrow network, of 1 for a size. allow_slower: whether a step may be chosen that has
    fewer multiply-adds, parameters or bytes and takes longer. folder: an empty one for the run, or that of an earlier
    session, which goes on; None: a new one. resume: a run folder; everything else comes from it. A finished run is left
    as it is (Run.before).
    listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises BudgetError with the floor, ConfigError, DataError, Interrupted.
    """
    listener, begun = hear(listener, progress), time.monotonic()
    check_runtime(runtime)
    if method == INT8_METHOD and (reason := why_missing(runtime)) is not None:
        raise ConfigError(f"--method int8: {reason}")
    if resume is None and method not in ("auto", INT8_METHOD):
        make_method(method)  # refuses what is no method before anything is read
    if folder is not None and (folder / "compress.json").exists() and (folder / "env.json").exists():
        resume = folder
    if resume is not None and (summary := finished(Path(resume))) is not None and "ladder" in summary:
        return Run(Path(resume), summary, before=True)
    with stop_on_signals() as stop, contextlib.ExitStack() as early:
        early.enter_context(stop.at_once())
        if resume is not None:
            folder, goal = Path(resume), read_goal(Path(resume))
            plan: Plan = from_dict(Plan, parse_json((folder / "recipe.json").read_bytes(), str(folder / "recipe.json")))
            links = plan.follow_links
            found = open_data(plan.data, seed=goal.split_seed, bad_files=plan.bad_files, follow_links=links)
            dataset = announce(found, listener)
            if dataset.fingerprint != plan.fingerprint:
                raise DataError(f"{plan.data}: the pictures changed since the run began; start a new run")
        else:
            check_writable(runs)
            targets = {"macs": macs, "params": params, "latency_ms": max_latency_ms, "size_bytes": max_size_bytes}
            goal = make_goal(targets, max_drop, method, steps, rounds, multiple, allow_slower)
            card, goal, base = read_source(model, goal, seed)
            found = open_data(data, seed=goal.split_seed, bad_files=bad_files, follow_links=follow_links)
            dataset = announce(found, listener)
            check_data(card, dataset, data, listener)
            plan = first_plan(card, str(data), dataset, threads, bad_files)
            plan = replace(plan, follow_links=follow_links, budget=Budget(runtime=runtime, time_s=time_s))
            goal = resolve_goal(goal, card, plan)
            recipe = tuning_recipe(base or RECIPES[recipe_name(dataset, None)], epochs or EPOCHS, goal.source, seed)
            recipe = fit_into_time(recipe, card, goal, len(dataset.splits["train"]), time_s if epochs is None else None)
            plan = replace(plan, recipe=recipe, budget=budget_of(goal, plan.budget))
            early.close()
            folder = folder or free_name(runs, name or dataset.name)
            write_json(folder / "compress.json", goal)
            write_json(folder / "recipe.json", plan)
            write_json(folder / "env.json", environment())
        held = folder_lock(folder, notice=lambda text: listener(WarningEvent(text)))
        with resumable(f"foveate compress --resume {folder}"), held:
            sweep(folder)
            early.close()
            with stop.at_once():
                clock = TimeBudget(plan.budget.time_s or math.inf, begun - read_spent(folder))
                run = open_run(folder, goal, plan, dataset, listener, stop, clock)
            return run_steps(run)


def first_plan(card: ModelCard, data: str, dataset: Dataset, threads: int | None, bad_files: Any) -> Plan:
    """The plan of a run, its recipe still open."""
    return Plan(
        data=data,
        model=str(card.provenance.get("model") or card.architecture.family),
        architecture=card.architecture,
        recipe=Recipe(),
        preprocess=card.preprocess,
        bad_files=bad_files,
        threads=threads or torch.get_num_threads(),
        fingerprint=dataset.fingerprint,
        command=command_line(),
    )


def fit_into_time(recipe: Recipe, card: ModelCard, goal: Goal, pictures: int, time_s: float | None) -> Recipe:
    """The recipe with precision, layout and threads settled, and as many epochs as the time allows, where one is
    given.
    """
    size, device = recipe.resolution or card.preprocess.resolution, torch.device("cpu")
    recipe = settle(card.architecture, recipe, size, device)
    if time_s is None:
        return recipe
    image_s = time_step(card.architecture, recipe, size, device)
    epoch_s, left_s = pictures * image_s * TAUGHT, time_s - min(END_S, END_SHARE * time_s)
    return replace(recipe, epochs=count_epochs(left_s / (goal.steps or MOST), epoch_s, MOST_EPOCHS))


def open_run(
    folder: Path, goal: Goal, plan: Plan, dataset: Dataset, listener: Listener, stop: Stop, clock: TimeBudget
) -> CompressionRun:
    """The pictures of a run and what all its steps share. clock: of the time that everything may take."""
    job = make_job(plan, plan.architecture, dataset, listener)
    split = dataset.splits["test" if "test" in dataset.splits else "val"]
    test = read(evaluation_pictures(split, plan.preprocess), plan.bad_files, listener)
    extra = extra_bytes(goal.kind, plan)
    yardstick = make_yardstick(plan, lambda: float(step_rows(folder)[0]["latency_ms"]))
    measure = functools.lru_cache(maxsize=256)(cost_of(goal.kind, plan, extra, yardstick))
    return CompressionRun(folder, goal, plan, dataset, job, test, measure, yardstick, extra, listener, stop, clock)


def run_steps(run: CompressionRun) -> Run:
    """All steps that are missing, then the end of the run."""
    rows, method = step_rows(run.folder), run.goal.method
    begun = time.monotonic()
    if not rows:
        rows = [make_step(run, 0, "original", None)]
        write_spent(run.folder, run.time)
    if method == INT8_METHOD and len(rows) == 1:
        rows.append(quantise_step(run, rows[-1], 1))
    while not out_of_time(run, rows) and (goal := next_goal(run, rows)) is not None:
        if (quick := try_int8(run, rows)) is not None:
            rows.append(quick)
            continue
        if method == "auto":
            known = [row["method"] for row in float_steps(rows)[1:]]
            method = known[0] if known else pick_method(run, goal)
        rows.append(make_step(run, len(rows), method, goal))
        told = f"val {100 * rows[-1]['val_accuracy']:.1f} % (original {100 * rows[0]['val_accuracy']:.1f} %)"
        write_spent(run.folder, run.time)
        run.listener(StageEvent(f"step {len(rows) - 1}: {amount('macs', rows[-1]['macs'])} · {told}"))
        run.raise_if_stopped()
    with run.stop.at_once():
        return conclude(run, rows, time.monotonic() - begun)


def out_of_time(run: CompressionRun, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the time is over for one more step like the last one. A target that was asked for is gone for anyway."""
    if run.goal.target is not None or len(rows) < 2:
        return False
    return run.time.left_s - run.time.kept_s(float(rows[0]["seconds"])) < float(rows[-1]["seconds"])


def conclude(run: CompressionRun, rows: Sequence[Mapping[str, Any]], seconds: float) -> Run:
    """The best step becomes best/; tested, exported and reported as every run is."""
    folder, goal, number = run.folder, run.goal, choose(run.goal, rows)
    chosen = Path(rows[number]["run"])
    files = ("config.json", "model.safetensors", "README.md")
    write_folder(folder / "best", {name: (chosen / name).read_bytes() for name in files})
    whole, size = rows[0]["macs"], run.plan.preprocess.resolution
    story = [
        {
            **{key: value for key, value in row.items() if key != "curves"},
            "model": run.plan.model if i == 0 else f"{run.plan.model} {row['macs'] / whole:.2f}x",
            "resolution": size,
            "fits": fits(goal, row),
            "slower": slower(rows, row),
            "chosen": i == number,
        }
        for i, row in enumerate(rows)
    ]
    write_json(folder / "story.json", {"candidates": story})
    curves = rows[number]["curves"]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in curves))
    progress = Progress(rows=list(curves), best_epoch=len(curves), best_accuracy=rows[number]["val_accuracy"])
    int8 = {path.suffix: path.read_bytes() for path in chosen.glob(f"{INT8}.*")} or None
    made = finish(folder, run.dataset, Trained(run.plan, run.job, progress, seconds), run.listener, int8)
    summary = {**made.summary, "ladder": story, "chosen": number, "method": rows[number]["method"]}
    write_json(folder / "summary.json", summary)
    return Run(folder, summary)
