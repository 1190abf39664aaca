"""foveate search --study N: how well each cheap score ranks the nets of a space on these very pictures.

N nets, spread over the multiply-adds of the space, are trained alone; beside it every score is taken of each of them.
The folder holds proxies.json, written after every net, from which a study that was stopped goes on.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.config import parse_json, replace
from foveate.cost.count import cost
from foveate.data.index import Dataset
from foveate.data.preprocess import at_resolution
from foveate.errors import ConfigError, Interrupted
from foveate.events import Listener, StageEvent
from foveate.files import folder_lock, write_json, write_text
from foveate.search.ranking import ENOUGH, ceiling, kendall, tau_interval
from foveate.search.scores import SCORES
from foveate.search.space import Space, Tokens
from foveate.train.signals import exit_code, stop_on_signals
from foveate.workflows.search.design import Search, config_of, preprocess_of
from foveate.workflows.search.evaluators import prepare, train_short, zero_cost
from foveate.workflows.search.material import Material
from foveate.workflows.search.objective import material
from foveate.workflows.search.start import tuned
from foveate.workflows.search.study import opened
from foveate.workflows.search.subnets.judge import judged_children
from foveate.workflows.search.subnets.source import is_subnets

FILE = "proxies.json"
LONG = 3  # times as long as a trial is the training alone that scores are held against
DRAWN = 8  # nets that are drawn for one that is taken
FEW, SIZE, CURVE = 0.25, 0.75, 0.5  # shares of pictures, of resolution, of the epochs that a curve is told from
TWICE = 4  # nets that are trained with a second seed, for the noise

Row = dict[str, Any]
Measure = Callable[[Tokens], float]


def begin_study(folder: Path, count: int) -> None:
    """Make a search's folder one of a study of so many nets."""
    write_json(folder / FILE, {"study": count})


def is_study(folder: Path) -> bool:
    """Whether a search's folder is one of a study."""
    return (folder / FILE).is_file()


def study_scores(folder: Path, design: Search, listener: Listener) -> dict[str, Any]:
    """Cheap scores held against training alone, from where the folder's proxies.json is. Returns that file's "result":
    for every score tau, its interval, seconds a net, how to use it. Raises ConfigError and Interrupted.
    """
    with folder_lock(folder), stop_on_signals() as stop:
        with stop.at_once():
            dataset, space = opened(design)
            known = read(folder)
            count, rows = int(known["study"]), list(known.get("rows", []))
            nets = known.get("nets") or [list(net) for net in spread(space, dataset, design, count)]
            prepare(lambda: material(design, space, dataset, list, folder), design, folder, listener, lambda: False)
            scene = material(design, space, dataset, list, folder)
            measures = makers(scene) if len(rows) < len(nets) else {}
        for number in range(len(rows), len(nets)):
            if stop.signal:
                again = f"stopped and saved; go on with: foveate search --resume {folder}"
                raise Interrupted(again, exit_code(stop.signal))
            with stop.at_once():
                rows.append(measured(scene, tuple(nets[number]), measures, again=number < TWICE))
            write_json(folder / FILE, {"study": count, "nets": nets, "rows": rows})
            listener(StageEvent(f"net {number + 1} of {len(nets)}: alone {100 * rows[-1]['alone']:.1f} %"))
    result = {"folder": str(folder), "space": design.space, **told(design, rows, len(scene.val))}
    write_json(folder / FILE, {"study": count, "nets": nets, "rows": rows, "result": result})
    write_text(folder / "table.md", "\n".join(lines(result)) + "\n")
    return result


def read(folder: Path) -> dict[str, Any]:
    """proxies.json; empty where there is none."""
    path = folder / FILE
    found: dict[str, Any] = parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
    return found


def spread(space: Space, dataset: Dataset, design: Search, count: int) -> list[Tokens]:
    """Nets whose multiply-adds are spread evenly over those of random ones, on a logarithmic scale."""
    rng, found = np.random.default_rng(design.seed), dict[Tokens, float]()
    for _ in range(DRAWN * count):
        net = space.canonical(space.sample(rng))
        if net not in found:
            try:
                config = config_of(space, net, dataset)
                macs = cost(config, resolution=preprocess_of(design, config).resolution).macs
            except ConfigError:
                continue
            if design.budget.max_macs is None or macs <= design.budget.max_macs:
                found[net] = math.log(macs)
        if len(found) >= 3 * count:
            break
    if len(found) < count:
        raise ConfigError(f"--study {count}: {len(found)} different nets of {space.name} were found; take fewer")
    low, high = min(found.values()), max(found.values())
    chosen: list[Tokens] = []
    for i in range(count):
        mark = low + (high - low) * i / max(1, count - 1)
        chosen.append(min((net for net in found if net not in chosen), key=lambda net: abs(found[net] - mark)))
    return [chosen[int(i)] for i in rng.permutation(count)]  # a study that is cut short has seen all sizes


def makers(scene: Material) -> Mapping[str, Measure]:
    """Name -> the score of a net; whatever has its own training has its name say how long."""
    design = scene.search
    short = max(1, design.proxy.epochs // 3)
    few = max(1, int(FEW * design.pictures))
    made: dict[str, Measure] = {}
    if is_subnets(design.space):
        made["children"] = scored(judged_children(scene))
    else:
        made[f"steps: {short} epochs"] = trained(scene, replace(design, proxy=replace(design.proxy, epochs=short)))
        made[f"pictures: {few}"] = trained(scene, replace(design, pictures=few))
        size = max(8, round(SIZE * design.preprocess.resolution / 8) * 8)
        if size < design.preprocess.resolution:
            made[f"resolution: {size}"] = trained(scene, smaller(design, size))
    for name in SCORES:
        made[name] = scored(zero_cost(change(scene, replace(design, evaluate=name))))
    return made


def ignored(key: str, value: Any) -> None:
    """A note that nobody wants."""


def scored(value: Callable[[Tokens, Callable[[str, Any], None]], float]) -> Measure:
    """A value whose notes are left out."""
    return lambda net: value(net, ignored)


def smaller(design: Search, size: int) -> Search:
    """The same search with smaller pictures."""
    return replace(design, preprocess=at_resolution(design.preprocess, size))


def change(scene: Material, design: Search) -> Material:
    """The same pictures for another design; read again where that wants others."""
    same = design.preprocess == scene.search.preprocess and design.pictures == scene.search.pictures
    if same:
        return Material(design, scene.space, scene.dataset, scene.train, scene.val, list, scene.folder)
    return material(design, scene.space, scene.dataset, list, scene.folder)


def trained(scene: Material, design: Search) -> Measure:
    """Accuracy after a training by another design."""
    goods = change(scene, design)

    def value(net: Tokens) -> float:
        config = replace(config_of(goods.space, net, goods.dataset), resolution=design.preprocess.resolution)
        return train_short(goods, config, ignored)

    return value


def measured(scene: Material, net: Tokens, measures: Mapping[str, Measure], *, again: bool) -> Row:
    """The training alone of a net, with another seed again for some, its curve, and every score with its seconds."""
    design = scene.search
    long = replace(design, proxy=replace(design.proxy, epochs=LONG * design.proxy.epochs))
    curve: list[float] = []

    def note(key: str, value: Any) -> None:
        if key == "curve":
            curve[:] = value

    begun = time.monotonic()
    row: Row = {"alone": alone(change(scene, long), net, note), "alone_s": time.monotonic() - begun}
    row["scores"], row["seconds"] = {}, {}
    if again:
        row["again"] = alone(change(scene, replace(long, seed=design.seed + 1)), net, ignored)
    if len(curve) >= 4:
        row["scores"]["curve"] = extrapolated(curve[: int(CURVE * len(curve))])
        row["seconds"]["curve"] = CURVE * row["alone_s"]
    for name, measure in measures.items():
        begun = time.monotonic()
        torch.manual_seed(design.seed)
        row["scores"][name], row["seconds"][name] = float(measure(net)), time.monotonic() - begun
    return row


def alone(scene: Material, net: Tokens, note: Callable[[str, Any], None]) -> float:
    """Validation accuracy of a net that is trained by itself: sub-networks from their part of the shared weights."""
    config = config_of(scene.space, net, scene.dataset)
    if not is_subnets(scene.search.space):
        return train_short(scene, config, note)
    return tuned(scene, net)


def extrapolated(curve: list[float]) -> float:
    """Where a learning curve ends, told from its beginning: an error that falls by the same ratio again as in the
    second half of what is there (Aitken's rule on three points; the last point where they do not fall evenly).
    """
    first, middle, last = curve[0], curve[len(curve) // 2], curve[-1]
    bend = (last - middle) - (middle - first)
    if bend >= 0 or last <= middle or middle <= first:
        return last
    return float(np.clip(last - (last - middle) ** 2 / bend, last, 1.0))


def told(design: Search, rows: list[Row], n: int) -> dict[str, Any]:
    """What the rows say: every score's tau; which one is taken; the most that these pictures allow."""
    truth = [float(row["alone"]) for row in rows]
    pairs = [(row["alone"], row["again"]) for row in rows if "again" in row]
    seeds = math.sqrt(sum((a - b) ** 2 for a, b in pairs) / (2 * len(pairs))) if pairs else 0.0
    mean = sum(truth) / len(truth)
    binomial = math.sqrt(max(mean * (1 - mean), 0.0) / n)
    spread_ = math.sqrt(max(0.0, float(np.var(truth)) - seeds**2))
    found = []
    for name in {name for row in rows for name in row["scores"]}:
        values = [float(row["scores"][name]) for row in rows]
        low, high = tau_interval(values, truth)
        seconds = sum(row["seconds"][name] for row in rows) / len(rows)
        found.append(
            {
                "score": name,
                "tau": kendall(values, truth),
                "interval": [low, high],
                "seconds": seconds,
                "use": use(name),
            }
        )
    clear = sorted((f for f in found if f["interval"][0] > 0), key=lambda f: (-f["tau"], f["score"]))
    unclear = sorted((f for f in found if f["interval"][0] <= 0), key=lambda f: f["score"])
    good = [f for f in clear if f["tau"] >= ENOUGH and f["use"] is not None]
    chosen = min(good, key=lambda f: f["seconds"])["score"] if good else None
    return {
        "nets": len(rows),
        "chosen": chosen,
        "ranks": clear,
        "says_nothing": unclear,
        "seconds_alone": sum(row["alone_s"] for row in rows) / len(rows),
        "spread": float(np.std(truth)),
        "noise_of_seeds": seeds,
        "noise_of_pictures": binomial,
        "ceiling": ceiling(spread_, max(seeds, binomial)),
        "validation": n,
    }


def use(name: str) -> str | None:
    """How a search takes a score; None where none does."""
    kind, _, value = name.partition(": ")
    if kind == "steps":
        return f"--epochs {value.split()[0]}"
    if kind == "pictures":
        return f"--pictures {value}"
    if name == "children":
        return "--evaluate children"
    return f"--evaluate {name}" if name in SCORES else None


def lines(result: Mapping[str, Any]) -> list[str]:
    """The study for people. Scores whose interval holds zero stand in no order."""
    out = [
        f"{result['nets']} nets of {result['space']}, each trained alone ({result['seconds_alone']:.1f} s a net)",
        "",
    ]
    out += ["| score | tau | 95 % interval | seconds a net |", "|---|---|---|---|"]
    for f in result["ranks"]:
        low, high = f["interval"]
        out.append(f"| {f['score']} | {f['tau']:.2f} | {low:.2f} to {high:.2f} | {f['seconds']:.2f} |")
    if result["says_nothing"]:
        names = ", ".join(f["score"] for f in result["says_nothing"])
        out += ["", f"The interval holds zero, so these rank nothing here (in no order): {names}."]
    out += [
        "",
        f"Accuracies spread by {100 * result['spread']:.1f} points; another seed changes one by"
        f" {100 * result['noise_of_seeds']:.1f}, {result['validation']:,} validation pictures by"
        f" {100 * result['noise_of_pictures']:.1f}: no score can be expected above a tau of {result['ceiling']:.2f}.",
    ]
    if result["chosen"] is None:
        out.append(
            f"No score reaches a tau of {ENOUGH}: train longer (--epochs), on more pictures, or study more nets."
        )
    else:
        one = next(f for f in result["ranks"] if f["score"] == result["chosen"])
        out.append(f"The cheapest with a tau of {ENOUGH} or more is {one['score']}: search with {one['use']}.")
    return out
