"""A table of a paper at the size of this machine: plan, power line, trainings or measurement, verdict.

A folder holds it: reproduce.json (what was planned), pictures.csv (a part of a large data set), networks/, trainings-1/
(an ablation of its own), teacher-1/, results.json, table.md and report.html.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from foveate import __version__
from foveate.config import from_dict, parse_json, pick, record, replace, to_dict
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, FoveateError
from foveate.events import Listener, StageEvent, WarningEvent, silent
from foveate.files import check_writable, folder_lock, free_name, write_json, write_text
from foveate.report.reproduction import table_text, write_page
from foveate.report.units import duration, plural
from foveate.runs.complete import train
from foveate.runs.devices import DeviceName, check_device
from foveate.runs.plan import command_line
from foveate.runs.run import Run, environment
from foveate.workflows.ablate.design import Ablation, Request
from foveate.workflows.ablate.run import begin, load_ablation, outcomes, resume_ablation
from foveate.workflows.papers.arms import at_classes, common_changes, filled, model_of, named, parts
from foveate.workflows.papers.measures import MEASURES, read
from foveate.workflows.papers.pictures import mirrored, pool_of, side_of, write_part
from foveate.workflows.papers.power import planned_sd, power_line
from foveate.workflows.papers.scale import Scale, fitting, picture_ms
from foveate.workflows.papers.table import POINTS, Context, Found, Measurement, Table, Trainings
from foveate.workflows.papers.tables import TABLES
from foveate.workflows.papers.verdict import of_table, rows_of

NOTE, TRAININGS, TEACHER = "reproduce.json", "trainings", "teacher"
FULL = "full"
DEFAULT_S = 120.0


@record
class Planned:
    """reproduce.json: what goes on with --resume."""

    table: str
    data: str  # as given
    used: str  # DATA of the trainings: as given, or the list of a part
    scale: Scale
    classes: int
    sd: float  # planned, of a difference
    power: str
    device: Literal["cpu", "cuda", "mps"]
    common: tuple[str, ...] = ()  # changes of every arm
    first_seed: int = 0
    budget_s: float = 0.0  # 0: full
    bad_files: Literal["stop", "skip"] = "stop"
    follow_links: bool = False
    command: str = ""
    version: str = __version__


def reproduce(
    table: str,
    data: str | Path = "digits",
    *,
    budget_s: float | None = DEFAULT_S,
    seeds: int | None = None,
    pictures: int | None = None,
    epochs: int | None = None,
    workers: int | None = None,
    device: DeviceName = "auto",
    seed: int = 0,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    name: str | None = None,
    runs: str | Path = "runs",
    listener: Listener | None = None,
) -> Run:
    """Run a table of TABLES and return its folder with the rows and the verdict.

    data: "digits" (no network), or a folder such as CIFAR-10's. budget_s: seconds of wall time, which choose pictures,
    epochs and, where that is not enough, fewer seeds; None: the size at which the table should be settled. pictures,
    epochs, seeds: given in place of that choice. workers: processes. seed: the first one.
    Raises ConfigError, DataError, Interrupted.
    """
    listener = listener or silent
    chosen = pick(TABLES, table, "table")
    check_writable(runs)
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected 1 or more; an interval over seeds needs 2")
    place = check_device(device)
    folder = free_name(runs, f"reproduce-{name or table}")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(chosen.study, Measurement):
        scale = Scale(0, 1, seeds or chosen.study.seeds)
        text = f"power: {scale.seeds} repeats; a count has no scatter, of a time the interval is told"
        plan = Planned(table, str(data), str(data), scale, 0, 0.0, text, place)
    else:
        dataset = open_data(data, bad_files=bad_files, follow_links=follow_links)
        given = (seeds, pictures, epochs)
        plan = _sized(chosen, chosen.study, str(data), dataset, folder, place, budget_s, given, workers or 1)
    plan = replace(plan, first_seed=seed, budget_s=budget_s or 0.0, command=command_line())
    plan = replace(plan, bad_files=bad_files, follow_links=follow_links)
    write_json(folder / "env.json", environment())
    write_json(folder / NOTE, plan)
    listener(StageEvent(plan.power))
    return _finished(folder, plan, workers, False, listener)


def resume_reproduction(
    folder: str | Path, *, workers: int | None = None, retry: bool = False, listener: Listener | None = None
) -> Run:
    """Do what is left of a table, beside other processes that do the same, and write its results."""
    plan, listener = load_plan(Path(folder)), listener or silent
    listener(StageEvent(plan.power))
    return _finished(Path(folder), plan, workers, retry, listener)


def load_plan(folder: Path) -> Planned:
    """reproduce.json of a folder. ConfigError where there is none."""
    path = folder / NOTE
    if not path.is_file():
        raise ConfigError(f"{folder}: no {NOTE} here; expected a folder such as runs/reproduce-degradation-1")
    plan: Planned = from_dict(Planned, parse_json(path.read_bytes(), str(path)), str(path))
    return plan


def _sized(
    table: Table,
    study: Trainings,
    data: str,
    dataset: Dataset,
    folder: Path,
    device: Literal["cpu", "cuda", "mps"],
    budget_s: float | None,
    given: tuple[int | None, int | None, int | None],
    workers: int,
) -> Planned:
    """The plan of a comparison: how much of the pictures, how long, how many seeds, and what that can tell."""
    seeds, pictures, epochs = given
    pool, side, classes = pool_of(dataset), side_of(dataset), len(dataset.classes)
    if pictures is not None and not pool.cut:
        raise ConfigError(f"--pictures {pictures}: of built-in {data} all are taken; leave it out, or give a folder")
    target = Scale(study.pictures, study.epochs, seeds or study.seeds)
    if budget_s is not None and (pictures is None or epochs is None):
        common = common_changes(study, min(study.pictures or pool.train, pool.train), side, True, study.epochs)
        ms = [_arm_ms(study, i, common, classes, device) for i in range(len(study.arms))]
        target = fitting(ms, budget_s, pool, target, given_seeds=seeds is not None, workers=workers)
    scale = replace(target, pictures=pictures or target.pictures, epochs=epochs or target.epochs)
    if pictures is not None or epochs is not None:
        scale = replace(scale, expected_s=0.0)
    whole = scale.pictures in (0, pool.train) and scale.test in (0, pool.test)
    used = data if whole or not pool.cut else write_part(dataset, scale, folder)
    test = pool.test if whole or not pool.cut else min(scale.test or pool.test, pool.test)
    trained = min(scale.pictures or pool.train, pool.train)
    unit = MEASURES[study.measure].unit
    sd = planned_sd(study.sd, test, unit == POINTS)
    size = max((c.size for c in table.contrasts if c.size is not None and c.published.unit == unit), default=None)
    origin = f"planned: {study.sd:g} over seeds, and {test:,} test pictures"
    return Planned(
        table=table.name,
        data=data,
        used=used,
        scale=scale,
        classes=classes,
        sd=sd,
        power=power_line(scale.seeds, sd, unit, origin, size),
        device=device,
        common=common_changes(study, trained, side, mirrored(dataset), scale.epochs),
    )


def _arm_ms(study: Trainings, number: int, common: Sequence[str], classes: int, device: str) -> float:
    config, recipe = parts(study, study.arms[number], study.epochs, common)
    size = config.resolution
    return picture_ms(at_classes(config, classes, size), recipe, recipe.resolution or size, device)


def _finished(folder: Path, plan: Planned, workers: int | None, retry: bool, listener: Listener) -> Run:
    table = pick(TABLES, plan.table, "table")
    tell_expected(plan, listener)
    if isinstance(table.study, Measurement):
        context = Context(
            plan.data,
            folder,
            plan.budget_s or 60 * table.minutes,
            plan.scale.seeds,
            plan.device,
            listener,
            full=not plan.budget_s,
        )
        found = {f.label: f for f in table.study.measure(context)}
        arms: list[dict[str, Any]] = []
        said = ""
    else:
        place = begun(folder, table.study, plan, listener)
        command = f"foveate reproduce --resume {folder}"
        resume_ablation(place, workers=workers, retry=retry, listener=listener, command=command)
        ablation = load_ablation(place)
        found, arms = gathered(place, ablation, table, plan)
        said = how_it_was_done(ablation, plan)
    rows = rows_of(table.contrasts, found)
    summary = summed_up(table, plan, rows, arms, said)
    with folder_lock(folder, wait_s=60.0):
        write_json(folder / "results.json", summary)
        write_text(folder / "table.md", "\n".join(table_text(summary)) + "\n")
        write_page(folder, summary)
    return Run(folder, {"folder": str(folder), **summary})


def tell_expected(plan: Planned, listener: Listener) -> None:
    """What it should take, and a warning where that is more than the budget."""
    expected = plan.scale.expected_s
    if expected:
        listener(StageEvent(f"{size_line(plan)}; about {duration(expected)} in all"))
        if plan.budget_s and expected > 1.1 * plan.budget_s:
            listener(
                WarningEvent(
                    f"the smallest size takes about {duration(expected)}, more than the budget of"
                    f" {duration(plan.budget_s)}; fewer seeds: --seeds 2"
                )
            )


def size_line(plan: Planned) -> str:
    """ "10,000 pictures, 20 epochs, 5 seeds"."""
    s = plan.scale
    many = f"{s.pictures:,} pictures" if s.pictures else "all pictures"
    return f"{many}, {plural(s.epochs, 'epoch')}, {plural(s.seeds, 'seed')}"


def begun(folder: Path, study: Trainings, plan: Planned, listener: Listener) -> Path:
    """The folder of the trainings: the one that is there, or a new one."""
    if there := sorted(folder.glob(f"{TRAININGS}-*/ablation.json")):
        return there[0].parent
    teacher = taught(folder, study, plan, listener) if study.teacher else ""
    first = study.arms[0]
    request = Request(
        data=plan.used,
        model=model_of(first.network or study.network, folder, 0),
        base=study.recipe,
        changes=filled((*study.changes, *plan.common, *first.changes), plan.scale.epochs, teacher),
        factors=named(study, folder, plan.scale.epochs, teacher),
        seeds=tuple(range(plan.first_seed, plan.first_seed + plan.scale.seeds)),
        device=plan.device,
        bad_files=plan.bad_files,
        follow_links=plan.follow_links,
        unequal=True,
    )
    return begin(request, folder, TRAININGS, listener)[0]


def taught(folder: Path, study: Trainings, plan: Planned, listener: Listener) -> str:
    """The model folder of the teacher, trained first, on the same pictures as its students, with the first seed."""
    if there := sorted(folder.glob(f"{TEACHER}-*/best/config.json")):
        return str(there[0].parent)
    arm = study.teacher
    assert arm is not None
    run = train(
        plan.used,
        model_of(arm.network or study.network, folder, 99),
        recipe=study.recipe,
        overrides=filled((*study.changes, *plan.common, *arm.changes), plan.scale.epochs),
        seed=plan.first_seed,
        device=plan.device,
        bad_files=plan.bad_files,
        follow_links=plan.follow_links,
        name=TEACHER,
        runs=folder,
        listener=listener,
    )
    return str(run.folder / "best")


def gathered(
    place: Path, ablation: Ablation, table: Table, plan: Planned
) -> tuple[dict[str, Found], list[dict[str, Any]]]:
    """The values of every contrast, paired by seed, and what every arm came to."""
    study = table.study
    assert isinstance(study, Trainings)
    done = outcomes(place, ablation)
    values: dict[str, list[float | None]] = {}
    for row, arm in enumerate(study.arms):
        folders = [place / "trials" / ablation.folder(row, p) for p in range(len(ablation.seeds))]
        values[arm.label] = [
            read(study.measure, folder, done[row, p], plan.classes) for p, folder in enumerate(folders)
        ]
    found = {}
    for c in table.contrasts:
        pairs = [([values[a][p] for a in c.plus], [values[a][p] for a in c.minus]) for p in range(len(ablation.seeds))]
        kept = [c.times * (total(a) - total(b)) for a, b in pairs if None not in (*a, *b)]
        found[c.label] = Found(c.label, tuple(kept))
    arms = []
    for row, arm in enumerate(study.arms):
        texts = [o["failed"] for (r, _), o in done.items() if r == row and o["failed"] is not None]
        arms.append(
            {
                "label": arm.label,
                "params": ablation.rows[row].params,
                "macs": ablation.rows[row].macs,
                "values": values[arm.label],
                "failed": len(texts),
                "why": texts[0] if texts else None,
            }
        )
    if all(v is None for vs in values.values() for v in vs):
        raise FoveateError(f"{place}: every training failed, the first with: {arms[0]['why']}")
    return found, arms


def total(values: Sequence[float | None]) -> float:
    """The sum, of values that are all there."""
    return sum(v for v in values if v is not None)


def how_it_was_done(ablation: Ablation, plan: Planned) -> str:
    """One line: data, length, arithmetic."""
    p = ablation.rows[0].plan
    r, s = p.recipe, plan.scale
    pictures = f"{s.pictures:,} training pictures" if s.pictures else "all training pictures"
    return (
        f"{plan.data}: {pictures}, {plural(r.epochs, 'epoch')}, batch {r.batch}, {p.preprocess.resolution} px, recipe"
        f" {ablation.base}, {r.precision}, {plan.device}, {plural(r.threads, 'thread')}, seeds"
        f" {ablation.seeds[0]} to {ablation.seeds[-1]}"
    )


def summed_up(
    table: Table, plan: Planned, rows: list[dict[str, Any]], arms: list[dict[str, Any]], said: str
) -> Mapping[str, Any]:
    """results.json: everything that the table and the page say."""
    data = "" if plan.data == "digits" else f" --data {plan.data}"
    needs = isinstance(table.study, Trainings)
    cifar = data or (" --data CIFAR10" if needs else "")
    return {
        **{k: v for k, v in table.listed().items() if k != "published"},
        "arxiv": table.arxiv,
        "published_scale": table.scale,
        "critique": table.critique,
        "rows": rows,
        "verdict": of_table(rows),
        "arms": arms,
        "measure": table.study.measure if isinstance(table.study, Trainings) else None,
        "unit": MEASURES[table.study.measure].unit if isinstance(table.study, Trainings) else None,
        "data": plan.data,
        "scale": to_dict(plan.scale),
        "size": size_line(plan) if needs else "",
        "power": plan.power,
        "how": said,
        "device": plan.device,
        "command": plan.command,
        "full_command": f"foveate reproduce {table.name}{cifar} --budget full --seeds {table.study.seeds}",
        "version": plan.version,
    }
