"""The parts of an analysis: each takes a subject and a clock and gives a JSON-able dict."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
import torch

from foveate.analysis import batch_effect, gates, robustness, sphere
from foveate.analysis.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from foveate.analysis.features import features
from foveate.analysis.lanczos import Spectrum, leading, spectrum
from foveate.analysis.products import flat, gauss_newton, hessian, trained
from foveate.compress.criteria.redundancy import bounds, matrices, net_redundancy
from foveate.errors import ConfigError, FoveateError
from foveate.report.units import duration
from foveate.train.intervals import wilson
from foveate.workflows.analyse.subject import Subject

STEPS, DRAWS = 15, 3  # Lanczos steps, vectors (or batches)
QUICK_STEPS, QUICK_DRAWS = 8, 2  # where time is short: the top is right to about 1 % after 8 steps
LEAST_STEPS, LEAST_DRAWS = 6, 1  # where it is shorter still
FEWEST = 16  # pictures of the smallest sample
SHARE = 0.4  # of the time that is left: what curvature may take
NOISE_BATCH = 8  # pictures of the batches that noise is estimated from
BATCHES = (16, 32, 64, 128, 256)
TAUS = (1e-2, 1e-3)  # shares of the trace of the gradient matrix that may go
SWEEP = 9  # effective rates of a sweep
TESTED = 4  # pictures that invariance is tested on
SWEEP_EPOCHS, SWEEP_BATCH = 40, 64
DENSITY = 200  # points


@dataclass(frozen=True)
class Clock:
    """What a part may take in seconds, and what was asked for. limit_s: None for as long as it takes."""

    limit_s: float | None
    begun: float
    elr: tuple[float, float] | None = None
    masks: int = 10

    def left(self) -> float:
        """Seconds; infinity without a limit."""
        return math.inf if self.limit_s is None else self.limit_s - (time.monotonic() - self.begun)


class NoTime(FoveateError):
    """A part does not fit into the time that is left; another session may do it."""


def curvature(subject: Subject, clock: Clock) -> dict[str, Any]:
    """Extremes, trace and density of the Hessian and of its Gauss-Newton part, and what a batch adds to them.

    Batch norm in evaluation mode: in training mode pictures of a batch are tied, and batches are not additive. What a
    step of training sees, at the recipe's batch and in training mode, stands apart (`training`). The Hessian takes as
    many pictures as SHARE of the time allows, FEWEST at least; how many is told (`batch`). What there is no time for
    after that is left out: rows of `by_batch` from the largest batch on, then `gauss_newton`, then `sharpness`.
    """
    cpu, end = time.process_time(), 0.0 if clock.limit_s is None else (1 - SHARE) * clock.left()
    params = trained(subject.model)
    like = flat(params, params).detach()
    count = len(subject.seen[0])
    begun = time.monotonic()
    few = min(count, FEWEST)
    hessian(subject.model, [subject.pictures(few)], subject.loss)(like)
    each = (time.monotonic() - begun) / few  # seconds a picture
    budget = clock.left() - end
    short = budget < 8 * each * few * STEPS * DRAWS
    scarce = budget < 4 * each * few * QUICK_STEPS * QUICK_DRAWS
    steps, draws = (LEAST_STEPS, LEAST_DRAWS) if scarce else (QUICK_STEPS, QUICK_DRAWS) if short else (STEPS, DRAWS)
    products = (
        steps * draws + (6 if short else steps * draws) + (2 if short else DRAWS + 1)
    )  # spectrum, training, noise
    if (least := each * few * products) > clock.left():
        raise NoTime(
            f"curvature takes {duration(least)} at least here, of which {duration(max(0.0, clock.left()))} are left"
        )
    afford = 0.8 * budget / (each * products)
    whole = int(min(count, max(few, afford))) if math.isfinite(afford) else count
    pictures, batches = subject.pictures(whole), subject.batches(whole)
    model, loss, seed = subject.model, subject.loss, subject.seed
    product = hessian(model, batches, loss)
    first, top = leading(product, next(batch_effect.unit_vectors(like, 1, seed + 7)), steps)
    runs = (first, *(spectrum(product, like, steps=steps, draws=draws - 1, seed=seed).runs if draws > 1 else ()))
    found = Spectrum(like.numel(), runs)

    def measured(batch: int, steps: int = steps) -> batch_effect.Measured:
        drawn = 1 if short else draws
        return batch_effect.measure(model, pictures, loss, batch, steps=steps, draws=drawn, seed=seed)

    with sphere.batch_statistics(model):
        training = measured(max(2, min(subject.recipe.batch, whole)), min(steps, 6) if short else steps)
    noise = batch_effect.noise_of(
        model,
        batch_effect.micro_batches(pictures, NOISE_BATCH),
        loss,
        vectors=1 if short else DRAWS,
        seed=seed,
        top=top,
    )
    rows = []
    for batch in (b for b in BATCHES if b <= whole // 2):
        if clock.left() <= end:
            break
        rows.append(batch_row(measured(batch), batch_effect.predict(noise, extremes(found), batch)))
    ggn = None
    if clock.left() > end:
        ggn = spectrum(gauss_newton(model, batches, loss), like, steps=QUICK_STEPS, draws=QUICK_DRAWS, seed=seed)
    rate = batch_effect.polyak(found.runs) if found.top > 0 else (math.nan, math.nan)
    grid = np.linspace(*density_range(found), DENSITY)
    return {
        "top": found.top,
        "bottom": found.bottom,
        "trace": found.trace,
        "trace_interval": found.trace_interval,
        "batch": whole,
        "by_batch": rows,
        "gauss_newton": ggn and {"top": ggn.top, "trace": ggn.trace, "trace_interval": ggn.trace_interval},
        "training": plain(training) | {"sgd_rate": batch_effect.sgd_rate(training.top), "mode": "training"},
        "noise": plain(noise),
        "saturation": batch_effect.saturation(noise, found.top),
        "sgd_rate": batch_effect.sgd_rate(found.top),
        "polyak": {"rate": rate[0], "momentum": rate[1]},
        "sharpness": batch_effect.sharpness(model, batches, loss) if clock.left() > end else None,
        "density": {"at": grid, "share": found.density(grid)},
        "parameters": found.size,
        "loss": subject.recipe.loss.name,
        "mode": "evaluation",
        "steps": steps,
        "draws": draws,
        "lr": subject.lr if subject.trained else None,
        "lr_batch": subject.recipe.batch if subject.trained else None,
        "cpu_seconds": time.process_time() - cpu,
    }


def extremes(found: Spectrum) -> batch_effect.Extremes:
    """The two ends of a spectrum."""
    return batch_effect.Extremes(found.top, found.bottom)


def batch_row(measured: batch_effect.Measured, expected: batch_effect.Extremes) -> dict[str, Any]:
    """A row of by_batch: what was measured at a batch beside what was predicted."""
    return dict(plain(measured)) | {
        "predicted_top": expected.top,
        "predicted_bottom": expected.bottom,
        "sgd_rate": batch_effect.sgd_rate(measured.top),
        "predicted_sgd_rate": batch_effect.sgd_rate(expected.top),
        "adam_factor": batch_effect.adam_rate(1.0, BATCHES[0], measured.batch),
    }


def density_range(found: Spectrum) -> tuple[float, float]:
    """From below the smallest to above the largest eigenvalue."""
    room = 0.05 * max(found.top - found.bottom, 1e-12)
    return found.bottom - room, found.top + room


def turning(subject: Subject, clock: Clock) -> dict[str, Any]:
    """Which parameters are scale-invariant, how far a step turns them, and the regimes of a sweep (--elr)."""
    begun, some = time.monotonic(), subject.batches(TESTED, TESTED)
    with torch.no_grad(), sphere.batch_statistics(subject.model):
        subject.model(some[0][0])
    least = 3 * (time.monotonic() - begun) * len(list(subject.model.parameters()))  # in float64, once or more a tensor
    if least > clock.left():
        raise NoTime(
            f"the test of invariance takes {duration(least)} here, of which {duration(max(0.0, clock.left()))} are left"
        )
    names = sphere.invariant_names(subject.model, some)
    if not names:
        raise ConfigError("no scale invariance: scaling any parameter changes the answers (no norm follows a layer)")
    batches = subject.batches(256)
    batches = [b for b in batches if len(b[0]) > 1]
    rows = sphere.turns(subject.model, names, batches, subject.loss, subject.lr)
    params = dict(subject.model.named_parameters())
    size = sum(params[n].numel() for n in names)
    length = math.sqrt(sum(row.length**2 for row in rows))
    found: dict[str, Any] = {
        "groups": plain(rows),
        "share": size / sum(p.numel() for p in params.values()),
        "lr": subject.lr,
        "lr_known": subject.trained,
        "length": length,
        "elr": subject.lr / length**2,
        "gradient": length * math.sqrt(sum((row.gradient / row.length) ** 2 for row in rows)),
        "runs": [],
        "borders": {},
    }
    if clock.elr is not None:
        low, high = clock.elr
        runs, end = list[sphere.Trained](), clock.left() / 2  # half of the time is left for the other parts
        for elr in np.geomspace(low, high, SWEEP if high > low else 1):
            if runs and clock.left() < end:
                break
            runs.append(
                sphere.train_at(
                    *(subject.model, names, subject.pictures(), subject.loss, float(elr)),
                    epochs=SWEEP_EPOCHS,
                    batch=min(SWEEP_BATCH, max(2, len(subject.seen[0]) // 2)),
                    classes=len(subject.classes),
                    seed=subject.seed,
                )
            )
        found |= {"runs": plain(runs), "borders": plain(sphere.borders(runs))}
    return found


def maps(subject: Subject, clock: Clock) -> dict[str, Any]:
    """Features of every stage, norms and activations."""
    return dict(plain(features(subject.model, subject.batches())))


def gating(subject: Subject, clock: Clock) -> dict[str, Any]:
    """Gates by class, what leaving out the idle ones, and those of each stage, saves and costs."""
    found = gates.gates(subject.model, subject.batches(), len(subject.classes))
    if not found:
        raise ConfigError("no gates: no layer of this network multiplies its channels by what it sees")
    unseen = list(subject.unseen_batches())
    choices = {stage: [g for g in found if g.stage == stage] for stage in dict.fromkeys(g.stage for g in found)}
    idle = [g for g in found if g.idle]
    if idle:
        choices["idle"] = idle
    removals = {}
    for what, chosen in choices.items():
        if clock.left() <= 0:
            break
        removals[what] = gates.remove(subject.model, chosen, unseen)
    total, ratio = gates.share_of_parameters(subject.model)
    return {
        "gates": [
            {**{k: v for k, v in asdict(g).items() if k not in ("means", "by_class")}, "mean": g.mean, "idle": g.idle}
            | {"by_class": plain(np.nanmean(np.where(np.isnan(g.by_class), np.nan, g.by_class), 1))}
            for g in found
        ],
        "idle": [g.name for g in idle],
        "params": total,
        "params_ratio": ratio,
        "removals": plain(removals),
        "split": subject.unseen_split,
        "by_zoom": gates.by_zoom(subject.model, subject.batches(128)),
        "classes": subject.classes,
        "figure": plain({g.name: g.by_class[:3] for g in (found[0], found[-1])}),
    }


def steadiness(subject: Subject, clock: Clock) -> dict[str, Any]:
    """Accuracy on worse pictures and under attack, what the batch does at prediction, and spectral norms."""
    pictures, labels = subject.unseen
    clean = hits(subject, pictures / 255, labels)
    rows = []
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            if clock.left() <= 0:
                break
            worse = corrupt(pictures, kind, severity, subject.seed)
            rows.append({"kind": kind, "severity": severity} | rate(hits(subject, worse / 255, labels)))
    attacks, one_s = {}, 0.0
    for name, attack, steps in (("fgsm", robustness.fgsm, 1), ("pgd", robustness.pgd, robustness.PGD_STEPS)):
        if clock.left() > steps * one_s:
            begun = time.monotonic()
            moved = torch.cat(
                [
                    attack(subject.from_unit, x / 255, y)
                    for x, y in zip(pictures.split(64), labels.split(64), strict=True)
                ]
            )
            attacks[name] = rate(hits(subject, moved, labels)) | {"reach": robustness.REACH}
            one_s = time.monotonic() - begun  # about a step of the stronger one
    x = subject.pictures(16)[0]
    norms = robustness.spectral_norms(subject.model, x)
    return {
        "clean": rate(clean),
        "split": subject.unseen_split,
        "corruptions": rows,
        "attacks": attacks,
        "batch_dependence": robustness.batch_dependence(subject.model, x),
        "spectral": plain(norms),
        "bound": robustness.lipschitz_bound(subject.model, x),
        "local_stretch": robustness.local_stretch(subject.model, [(x, x)]),
    }


@torch.no_grad()
def hits(subject: Subject, unit: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """(right answers, pictures) for pictures from 0 to 1."""
    right = sum(
        int((subject.from_unit(x).argmax(1) == y).sum()) for x, y in zip(unit.split(64), labels.split(64), strict=True)
    )
    return right, len(labels)


def rate(found: tuple[int, int]) -> dict[str, Any]:
    """An accuracy with its interval."""
    return {"accuracy": found[0] / found[1], "interval": wilson(*found), "n": found[1]}


def redundant(subject: Subject, clock: Clock) -> dict[str, Any]:
    """The largest rate at which channels could go, by layer and in all: gradient matrices (a reconstruction)."""
    batches = subject.batches()
    widths = {name: m.shape[1] for name, m in matrices(subject.model, batches).items()}
    made: dict[str, Any] = {"pictures": len(subject.seen[0]), "rates": {}}
    for tau in TAUS:
        gone = bounds(subject.model, batches, tau)
        made["rates"][f"{tau:g}"] = {
            "rate": net_redundancy(subject.model, batches, tau),
            "layers": [{"name": n, "channels": widths[n], "redundant": gone[n]} for n in gone],
        }
    return made


PARTS: Mapping[str, Callable[[Subject, Clock], dict[str, Any]]] = {
    "curvature": curvature,
    "sphere": turning,
    "features": maps,
    "gates": gating,
    "robustness": steadiness,
    "redundancy": redundant,
}


def plain(value: Any) -> Any:
    """As JSON takes it: records as dicts, arrays as lists, what is not finite as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
