"""fuse: several trained models in, one model folder out that answers as their mean, or with their averaged weights."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from foveate.classic.pool import crossed_stack, fit_stack, fit_weights, log_mean, select
from foveate.config import replace, to_json
from foveate.data.index import Dataset, open_data
from foveate.data.load import Pictures, evaluation_pictures
from foveate.data.preprocess import Preprocess
from foveate.errors import BudgetError, ConfigError
from foveate.events import Listener, StageEvent, silent
from foveate.files import check_writable, folder_lock, free_name
from foveate.report.units import percent
from foveate.runs.complete import read_plan
from foveate.runs.made import Made, write_made
from foveate.runs.plan import Budget, Plan, check_runtime, command_line
from foveate.runs.run import Run, announce
from foveate.runs.setup import read
from foveate.runs.training import START
from foveate.selection.finished_runs import latencies, runs_in
from foveate.train.artefact import ModelCard, load_model
from foveate.train.blend import blend
from foveate.train.evaluate import accuracy, labels_of, predict_logits
from foveate.train.recipe import Recipe
from foveate.train.statistics import refresh
from foveate.trust.calibration import fit_temperature, probabilities
from foveate.zoo import build
from foveate.zoo.composed.fusion import Fusion, FusionConfig, Member
from foveate.zoo.tensors import read_tensors

By = Literal["mean", "weights", "greedy", "stack", "soup", "wise"]
HEADROOM = 0.9  # of the latency budget, for the sum of members that were timed apart
ALPHAS = tuple(i / 10 for i in range(10))  # tried between start and end; the end itself always is
REFRESH = 16, 32  # batches, and pictures each, that norm statistics of a soup are taken anew from


@dataclass(frozen=True)
class Part:
    """A member, opened."""

    place: str
    model: nn.Module
    card: ModelCard


def fuse(
    models: Sequence[str | Path] = (),
    *,
    folder: str | Path | None = None,
    data: str | Path | None = None,
    by: By = "mean",
    max_latency_ms: float | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    seed: int = 0,
    threads: int | None = None,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime",
    listener: Listener | None = None,
) -> Run:
    """One model of several: model or run folders of the same classes, of any kind.

    folder: of runs; all that are finished and of the same data are members, beside those named; then by "greedy".

    by: "mean" of calibrated probabilities; "weights", the mean with weights of the least loss on validation; "greedy",
    weights by greedy selection, of members that take no more than max_latency_ms together; "stack", logistic
    regression on their log probabilities (accuracy on validation is out of fold); "soup", averaged weights of networks
    of one architecture, members added only where validation does not fall; "wise", of a fine-tuned network the best
    point on the line from its start (arXiv:2109.01903): a run that began with a linear classifier, or two models, the
    start first. data: None: that of the first run. The result is finished like every run; its members are in the
    summary, with what each adds on validation. Raises ConfigError, DataError, BudgetError.
    """
    listener, begun = listener or silent, time.monotonic()
    check_runtime(runtime)
    check_writable(runs)
    dataset = None
    if data is not None:
        dataset = announce(open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    if folder is not None:
        models = [*models, *runs_in(folder, None if dataset is None else dataset.fingerprint)]
        by = "greedy" if by == "mean" else by
    parts = open_parts(models, 1 if by == "wise" else 2)
    source = str(data) if data is not None else data_of(Path(models[0]))
    if dataset is None:
        dataset = announce(open_data(source, seed=seed, bad_files=bad_files, follow_links=follow_links), listener)
    check_classes(parts, dataset)
    seen = [
        (read(evaluation_pictures(dataset.splits["val"], p.card.preprocess), bad_files, listener), p) for p in parts
    ]
    labels = labels_of(seen[0][0])
    logits = [in_order(predict_logits(p.model, pictures, p.card.preprocess), p, dataset) for pictures, p in seen]
    for p, z in zip(parts, logits, strict=True):
        listener(StageEvent(f"  {p.place}  val {percent(accuracy(z, labels))} %"))
    train = read(evaluation_pictures(dataset.splits["train"], parts[0].card.preprocess), bad_files, listener)
    threads = threads or torch.get_num_threads()
    members: list[dict[str, Any]] = []
    if by == "greedy":
        views = [p.card.preprocess for p in parts]
        places, nets = [p.place for p in parts], [p.model for p in parts]
        costs = [] if max_latency_ms is None else latencies(places, nets, views, threads, runtime)
        kept = choose(parts, logits, labels, costs, max_latency_ms)
        parts, logits, seen = [parts[i] for i in kept], [logits[i] for i in kept], [seen[i] for i in kept]
    about: dict[str, Any] = {"by": by}
    if by == "wise":
        model, preprocess, val, about["alpha"], members = make_wise(parts, dataset, seen[-1][0], listener)
        found = predict_logits(model, val, preprocess)
    elif by == "soup":
        model, preprocess, val = make_soup(parts, logits, labels, dataset, train, seen[0][0], listener)
        found = predict_logits(model, val, preprocess)
    else:
        model, preprocess = make_fusion(parts, logits, labels, dataset, by)
        val = read(evaluation_pictures(dataset.splits["val"], preprocess), bad_files, listener)
        found = predict_logits(model, val, preprocess)
    members = members or tell_members(parts, logits, labels)
    plan = Plan(
        data=source,
        model=f"{by} of {len(parts)}",
        architecture=model.config,
        recipe=Recipe(epochs=1, seed=seed),
        preprocess=preprocess,
        bad_files=bad_files,
        follow_links=follow_links,
        threads=threads,
        budget=Budget(max_latency_ms=max_latency_ms, runtime=runtime),
        fingerprint=dataset.fingerprint,
        command=command_line(),
    )
    place = free_name(runs, name or f"{dataset.name}-fusion")
    with folder_lock(place):
        made = Made(model, found, train, val, [])
        return write_made(place, plan, dataset, made, listener, begun, None, {**about, "members": members})


def open_parts(models: Sequence[str | Path], least: int = 2) -> list[Part]:
    """The members. ConfigError for fewer than `least`, and for one that is itself a fusion."""
    if len(models) < least:
        raise ConfigError(f"{len(models)} models: fuse takes two or more, e.g. foveate fuse runs/a runs/b")
    parts = []
    for place in models:
        folder = Path(place) / "best" if (Path(place) / "best" / "config.json").is_file() else Path(place)
        model, card = load_model(folder)
        if card.architecture.family == "fusion":
            raise ConfigError(f"{place}: is itself a fusion; give its members")
        parts.append(Part(str(place), model, card))
    return parts


def data_of(folder: Path) -> str:
    """DATA of the run that a model is of. ConfigError where it is not known."""
    for place in (folder, folder.parent):
        if (place / "recipe.json").is_file():
            return read_plan(place).data
    raise ConfigError(f"{folder}: no run that says its pictures; give them with --data")


def check_classes(parts: Sequence[Part], dataset: Dataset) -> None:
    """ConfigError unless all members and the pictures have the same classes."""
    for p in parts:
        odd = sorted(set(p.card.classes) ^ set(dataset.classes))
        if odd:
            whose = "the model knows" if odd[0] in p.card.classes else "the pictures have"
            raise ConfigError(f'{p.place}: other classes than {dataset.name}: only {whose} "{odd[0]}"')


def in_order(logits: np.ndarray, part: Part, dataset: Dataset) -> np.ndarray:
    """Logits (N, K) with the classes in the order of the pictures'."""
    return logits[:, [part.card.classes.index(name) for name in dataset.classes]]


def choose(
    parts: Sequence[Part],
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    costs: Sequence[float],
    limit_ms: float | None,
) -> list[int]:
    """The members that greedy selection takes, two at least. costs: milliseconds of each, where there is a limit.

    BudgetError where the limit has no room for two; ConfigError where the best one is not made better by any.
    """
    if limit_ms is not None and sum(sorted(costs)[:2]) > HEADROOM * limit_ms:
        quick = parts[int(np.argmin(costs))].place
        raise BudgetError(
            f"--max-latency {limit_ms:g}ms: no two members fit; the quickest, {quick}, takes {min(costs):.3g} ms "
            f"alone and two take {sum(sorted(costs)[:2]):.3g} ms ({100 * (1 - HEADROOM):.0f} % are kept free)"
        )
    each = np.stack([probabilities(z, fit_temperature(z, labels)) for z in logits])
    weights = select(each, labels, costs or None, None if limit_ms is None else HEADROOM * limit_ms)
    kept = [i for i in range(len(parts)) if weights[i] > 0]
    if len(kept) < 2:
        best = parts[kept[0]].place if kept else "the best"
        raise ConfigError(f"{best}: no other member that fits beside it helps on validation; it is best alone")
    return kept


def make_wise(
    parts: Sequence[Part], dataset: Dataset, val: Pictures, listener: Listener
) -> tuple[Any, Preprocess, Pictures, float, list[dict[str, Any]]]:
    """The best point on validation between a start and its fine-tuning, ends included; the share of the end, and rows.

    parts: start and end; or the end alone, whose run has kept its start.
    """
    end = parts[-1]
    if len(parts) > 2:
        raise ConfigError(f"{len(parts)} models: wise is of a start and what was fine-tuned from it; give these two")
    check_alike(parts, dataset)
    if len(parts) == 2:
        start, origin = parts[0].model.state_dict(), parts[0].place
    else:
        run = Path(end.place) if (Path(end.place) / START).is_file() else Path(end.place).parent
        if not (run / START).is_file():
            raise ConfigError(f"{end.place}: its run has not kept where it started; give the start as first model")
        start, origin = read_tensors(run / START), "its start"
    if start.keys() != end.model.state_dict().keys():
        raise ConfigError(f"{end.place}: its start has other weights; wise is of one architecture")
    share, found, _, tried = blend(end.model, start, ALPHAS, val, end.card.preprocess)
    listener(StageEvent(f"  {share:g} of the way: val {percent(found)} %"))
    rows = [
        {"model": origin, "val_accuracy": tried[0.0], "adds": 100 * (found - tried[1.0])},
        {"model": end.place, "val_accuracy": tried[1.0], "adds": 100 * (found - tried[0.0])},
    ]
    return end.model, end.card.preprocess, val, share, rows


def check_alike(parts: Sequence[Part], dataset: Dataset) -> None:
    """ConfigError unless all members are one architecture that sees pictures alike, classes in the pictures' order."""
    first = parts[0]
    for p in parts[1:]:
        if p.card.architecture != first.card.architecture or p.card.preprocess != first.card.preprocess:
            raise ConfigError(f"{p.place}: another network than {first.place}; give one architecture and size")
        if p.card.classes != first.card.classes:
            raise ConfigError(f"{p.place}: its classes stand in another order than those of {first.place}")
    if first.card.classes != dataset.classes:
        raise ConfigError(f"{first.place}: its classes stand in another order than those of {dataset.name}")


def make_fusion(
    parts: Sequence[Part], logits: Sequence[np.ndarray], labels: np.ndarray, dataset: Dataset, by: By
) -> tuple[Fusion, Preprocess]:
    """The fused network and how it sees pictures: each member calibrated, then pooled, then the pool calibrated."""
    preprocess, members = common_view(parts)
    kind: Literal["mean", "stack"] = "stack" if by == "stack" else "mean"
    config = FusionConfig(tuple(members), kind, num_classes=len(dataset.classes), resolution=preprocess.resolution)
    model = cast(Fusion, build(config)).eval()
    scalings = [fit_temperature(z, labels) for z in logits]
    each = np.stack([probabilities(z, s) for z, s in zip(logits, scalings, strict=True)])  # (M, N, K)
    for inner, part in zip(model.members, parts, strict=True):
        inner.load_state_dict(part.model.state_dict())
    order = [[p.card.classes.index(name) for name in dataset.classes] for p in parts]
    model.order.copy_(torch.tensor(order))
    model.sharpnesses.copy_(torch.tensor([s.scale[0] for s in scalings]))
    if by == "stack":
        logs = np.log(np.maximum(each, 1e-6)).transpose(1, 0, 2).reshape(len(labels), -1)
        weight, bias = fit_stack(logs, labels, len(dataset.classes))
        model.stack.load_state_dict({"weight": torch.tensor(weight).float(), "bias": torch.tensor(bias).float()})
        pooled = crossed_stack(logs, labels, len(dataset.classes))
    else:
        count = len(parts)
        makers = {"weights": fit_weights, "greedy": select}
        weights = makers[by](each, labels) if by in makers else np.full(count, 1 / count)
        model.weights.copy_(torch.tensor(weights))
        pooled = log_mean(each, weights)
    model.sharpness.data.fill_(fit_temperature(pooled, labels).scale[0])
    return model, preprocess


def common_view(parts: Sequence[Part]) -> tuple[Preprocess, list[Member]]:
    """One way to see a picture that serves all members, and what each makes of it.

    The same for all: exactly that. Else the largest, from which a member's own size is made by bilinear resizing inside
    the network. ConfigError where some crop and others squash or letterbox.
    """
    plain: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    seen = [p.card.preprocess for p in parts]
    if any(len(p.mean) != 3 for p in seen):
        raise ConfigError("a member sees grey pictures of one channel: fuse takes members of three")
    same = all(replace(p, **plain) == replace(seen[0], **plain) for p in seen)
    if not same and len({p.fit for p in seen}) > 1:
        raise ConfigError(
            f"members see pictures differently ({', '.join(sorted({p.fit for p in seen}))}): train them alike"
        )
    if not same and seen[0].fit == "letterbox":
        raise ConfigError("members letterbox pictures to different sizes: train them alike")
    crop = seen[0].fit == "crop" and not same
    size = max(p.resize if crop else p.resolution for p in seen)
    shared = seen[0] if same else replace(seen[0], resolution=size, resize=size)
    members = [
        Member(
            to_json(part.card.architecture),
            p.resize if crop else p.resolution,
            p.resolution,
            cast(Any, p.mean),
            cast(Any, p.std),
        )
        for part, p in zip(parts, seen, strict=True)
    ]
    return replace(shared, **plain), members


def make_soup(
    parts: Sequence[Part],
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    dataset: Dataset,
    train: Pictures,
    val: Pictures,
    listener: Listener,
) -> tuple[Any, Preprocess, Pictures]:
    """Averaged weights (arXiv:2203.05482, greedy): the best member first, others where validation does not fall. Norm
    statistics are taken anew from training pictures. Never below the best member on validation.
    """
    check_alike(parts, dataset)
    first = parts[0]
    order = sorted(range(len(parts)), key=lambda i: -accuracy(logits[i], labels))
    best: Any = parts[order[0]].model
    top, kept = accuracy(logits[order[0]], labels), [parts[order[0]].model.state_dict()]
    for i in order[1:]:
        states = [*kept, parts[i].model.state_dict()]
        tried = build(first.card.architecture).eval()
        tried.load_state_dict(averaged(states))
        settle(tried, train, first.card.preprocess)
        found = accuracy(predict_logits(tried, val, first.card.preprocess), labels)
        taken = found >= top
        listener(StageEvent(f"  with {parts[i].place}: val {percent(found)} %, {'kept' if taken else 'left out'}"))
        if taken:
            best, top, kept = tried, found, states
    return best, first.card.preprocess, val


def averaged(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each tensor, in float32; counters are those of the first."""
    return {
        key: torch.stack([s[key].float() for s in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def settle(model: nn.Module, train: Pictures, preprocess: Preprocess) -> None:
    """Norm statistics anew, from the first training pictures of a fixed shuffle."""
    from foveate.data.preprocess import normalise

    batches, size = REFRESH
    picks = np.random.default_rng(0).permutation(len(train.keep))[: batches * size]
    refresh(model, (normalise(b.pictures, preprocess) for b in train.in_order(size, only=picks) if len(b.pictures) > 1))


def tell_members(parts: Sequence[Part], logits: Sequence[np.ndarray], labels: np.ndarray) -> list[dict[str, Any]]:
    """A row a member: its accuracy on validation, and by how many points the equal mean falls without it."""
    each = np.stack([probabilities(z, fit_temperature(z, labels)) for z in logits])
    count = len(parts)
    whole = accuracy(log_mean(each, np.full(count, 1 / count)), labels)
    rows = []
    for i, part in enumerate(parts):
        rest = np.delete(each, i, 0)
        without = accuracy(log_mean(rest, np.full(count - 1, 1 / (count - 1))), labels)
        rows.append({"model": part.place, "val_accuracy": accuracy(logits[i], labels), "adds": 100 * (whole - without)})
    return rows
