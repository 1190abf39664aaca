"""analyse: part by part into a run folder, each finished part written at once, so that a stopped run goes on there."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from foveate.analysis import gates
from foveate.config import near, parse_json
from foveate.data.preprocess import normalise
from foveate.errors import ConfigError, DataError, FoveateError, Interrupted, Terminated
from foveate.events import Listener, StageEvent, WarningEvent, silent
from foveate.files import check_writable, folder_lock, free_name, sweep, write_json
from foveate.report.analysis import Drawn, write_analysis
from foveate.report.progress import hear
from foveate.runs.plan import command_line
from foveate.runs.run import Run, environment
from foveate.train.signals import Stop, exit_code, stop_on_signals
from foveate.workflows.analyse.advice import advise
from foveate.workflows.analyse.parts import PARTS, Clock, NoTime, plain
from foveate.workflows.analyse.subject import Subject, affordable, open_subject

PICTURES = 512
NO_TIME = "go on with --resume, and more --time"


def analyse(
    model: str,
    data: str | Path,
    *,
    what: Sequence[str] = tuple(PARTS),
    time_s: float | None = None,
    beside: str | None = None,
    pictures: int = PICTURES,
    elr: tuple[float, float] | None = None,
    masks: int = 10,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: str | Path | None = None,
    seed: int = 0,
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Look into a network: a model folder, or a name of the zoo (random weights), on labelled pictures.

    what: parts, of PARTS. time_s: wall time; a part that does not fit is left for resume. beside: a second network on
    the same pictures, all parts too. pictures: drawn by the seed from the training split, and as many from test or
    val. elr: range of effective rates of a sweep, two numbers. masks: pictures that masks are drawn over.
    A part that can not be (no norms, no gates) says why in one line; where each part of the first network failed, the
    first reason is raised.
    listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises ConfigError, DataError, Interrupted.
    """
    listener = hear(listener, progress)
    with stop_on_signals() as stop:
        if resume is not None:
            folder, asked = Path(resume), read_asked(Path(resume))
            asked = asked | {"time_s": asked["time_s"] if time_s is None else time_s}
        else:
            check_parts(what)
            check_writable(runs)
            asked = {
                "model": str(model),
                "data": str(data),
                "what": list(what),
                "time_s": time_s,
                "beside": beside,
                "pictures": pictures,
                "elr": elr,
                "masks": masks,
                "seed": seed,
                "bad_files": bad_files,
                "follow_links": follow_links,
                "command": command_line(),
            }
            folder = Path()
        begun = time.monotonic()
        subjects = open_subjects(asked, listener)
        if resume is None:
            folder = free_name(runs, name or f"analyse-{subjects[0].name}")
            asked |= {"fingerprint": fingerprint(subjects[0]), "used": used_pictures(subjects, asked["time_s"])}
            write_json(folder / "analyse.json", plain(asked))
            write_json(folder / "env.json", environment())
        elif fingerprint(subjects[0]) != asked["fingerprint"]:
            raise DataError(f"{asked['data']}: the pictures changed since the analysis began; start a new one")
        with folder_lock(folder, notice=lambda text: listener(WarningEvent(text))):
            sweep(folder)
            subjects = [subject.fewer(*asked["used"]) if asked.get("used") else subject for subject in subjects]
            found = [
                run_parts(folder / place, subject, asked, listener, stop, begun, (i + 1) / len(subjects))
                for i, (place, subject) in enumerate(zip(("parts", "beside"), subjects, strict=False))
            ]
            return conclude(folder, asked, subjects, found)


def check_parts(what: Sequence[str]) -> None:
    """ConfigError for a part that there is not, or none at all."""
    if not what:
        raise ConfigError(f"--what is empty: expected some of {', '.join(PARTS)}")
    for part in what:
        if part not in PARTS:
            raise ConfigError(f'--what "{part}": {near(part, tuple(PARTS))}')


def read_asked(folder: Path) -> dict[str, Any]:
    """What was asked of a run folder; ConfigError where it is no analysis."""
    path = folder / "analyse.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no analyse.json here; expected the folder of an analysis")
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict) or "what" not in found:
        raise ConfigError(f"{path}: not what an analysis writes; start a new one")
    return found


def open_subjects(asked: dict[str, Any], listener: Listener) -> list[Subject]:
    """The network, and the one beside it."""
    return [
        open_subject(
            name,
            asked["data"],
            pictures=asked["pictures"],
            seed=asked["seed"],
            bad_files=asked["bad_files"],
            follow_links=asked["follow_links"],
            listener=listener if i == 0 else silent,
        )
        for i, name in enumerate(n for n in (asked["model"], asked["beside"]) if n)
    ]


def used_pictures(subjects: Sequence[Subject], time_s: float | None) -> tuple[int, int] | None:
    """How many seen and unseen pictures each subject has time for; None: all that were drawn."""
    if time_s is None:
        return None
    found = [affordable(subject, time_s / len(subjects)) for subject in subjects]
    return min(seen for seen, _ in found), min(unseen for _, unseen in found)


def fingerprint(subject: Subject) -> str:
    """Of the pictures that were drawn."""
    import hashlib

    digest = hashlib.sha256()
    for tensor in (*subject.seen, *subject.unseen):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def run_parts(
    folder: Path,
    subject: Subject,
    asked: dict[str, Any],
    listener: Listener,
    stop: Stop,
    begun: float,
    share: float,
) -> dict[str, dict[str, Any]]:
    """All parts that are missing, within this share of the time; what was found before is read.

    A signal gives up the part under way: Interrupted.
    """
    folder.mkdir(exist_ok=True)
    limit, found = None if asked["time_s"] is None else share * asked["time_s"], dict[str, dict[str, Any]]()
    for part in asked["what"]:
        path = folder / f"{part}.json"
        if path.is_file():
            found[part] = parse_json(path.read_bytes(), str(path))
            continue
        clock = Clock(limit, begun, tuple(asked["elr"]) if asked["elr"] else None, asked["masks"])
        if clock.left() <= 0:
            found[part] = {"reason": f"no time was left for it; {NO_TIME}"}
            continue
        listener(StageEvent(f"{subject.name}: {part}"))
        try:
            with stop.at_once():
                torch.manual_seed(subject.seed)
                found[part] = plain(PARTS[part](subject, clock))
        except NoTime as error:
            found[part] = {"reason": f"{error}; {NO_TIME}"}
            continue
        except FoveateError as error:
            found[part] = {"reason": str(error)}
        except (KeyboardInterrupt, Terminated):
            text = f"stopped; finished parts are saved; go on with: foveate analyse --resume {folder.parent}"
            raise Interrupted(text, exit_code(stop.signal)) from None
        write_json(path, found[part])
    return found


def conclude(
    folder: Path, asked: dict[str, Any], subjects: Sequence[Subject], found: Sequence[dict[str, dict[str, Any]]]
) -> Run:
    """analysis.json, the tables and the page; the reason where nothing could be computed."""
    first, subject = found[0], subjects[0]
    reasons = [part["reason"] for part in first.values() if "reason" in part]
    if len(reasons) == len(first):
        raise FoveateError(reasons[0])
    summary = {
        **first,
        "advice": advise(first, subject),
        "model": subject.name,
        "data": asked["data"],
        "classes": len(subject.classes),
        "pictures": {"train": len(subject.seen[0]), subject.unseen_split: len(subject.unseen[0])},
        "resolution": subject.preprocess.resolution,
        "seed": asked["seed"],
        "trained": subject.trained,
        "command": asked["command"],
        "run": str(folder),
        "report": str(folder / "report.html"),
    }
    if len(found) > 1:
        summary["beside"] = {**found[1], "model": subjects[1].name}
    write_json(folder / "analysis.json", plain(summary))
    drawn = draw_masks(subject, asked["masks"]) if "gates" in first else []
    write_analysis(folder, plain(summary), drawn)
    return Run(folder, plain(summary))


def draw_masks(subject: Subject, count: int) -> list[Drawn]:
    """Pictures with the masks that the network lays over them, from 0 to 1 between the least and the most of each."""
    pictures = subject.unseen[0][:count]
    if not count or not len(pictures):
        return []
    found = gates.masks(subject.model, normalise(pictures, subject.preprocess))
    rows = []
    for i, picture in enumerate(pictures):
        own = {}
        for name, mask in found.items():
            low, high = float(mask[i].min()), float(mask[i].max())
            own[name] = ((mask[i] - low) / max(high - low, 1e-12)).numpy()
        rows.append(Drawn(picture.permute(1, 2, 0).numpy(), subject.classes[int(subject.unseen[1][i])], own))
    return rows if found else []
