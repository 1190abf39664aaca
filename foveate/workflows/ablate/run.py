"""A controlled comparison: the same training with and without each factor, over paired seeds, with intervals.

Rows that are compared share the data, its split, the order of the pictures, the random numbers of every picture's
augmentation, and the initial weights wherever the network is the same; the seed sets all of these (arXiv:2103.03098
argues for letting all of them vary together). A folder holds it: ablation.json, trials/, results.json, table.md,
plot.png. Any number of processes may work in one folder at the same time.
"""

import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from foveate.config import parse_json
from foveate.errors import ConfigError, FoveateError, Interrupted
from foveate.events import EpochEvent, Event, Listener, ReadingEvent, StageEvent, StepEvent, TrialEvent, silent
from foveate.files import check_writable, claimed, folder_lock, free_name, write_json
from foveate.report.progress import hear
from foveate.runs.devices import check_device
from foveate.runs.plan import command_line
from foveate.runs.run import Run, environment
from foveate.runs.workers import is_orphan
from foveate.train import ranks
from foveate.train.signals import Stop, exit_code, resumable, stop_on_signals, unbroken
from foveate.workflows.ablate.design import Ablation, Kind, Request, design, read_ablation
from foveate.workflows.ablate.factors import parse_factors
from foveate.workflows.ablate.report import results, write_report
from foveate.workflows.ablate.trial import RESULT, forget, name_of, result, run_trial, tell, tidy
from foveate.workflows.ablate.workers import SharedTrials
from foveate.zoo.hub import PREFIX, is_fetched

PAUSE_S = 0.5  # between two looks at what other processes do
REPORT_S = 60.0  # the longest that the reports of others are waited for


def ablate(
    data: str | Path,
    model: str,
    factors: str,
    *,
    base: str | None = None,
    overrides: Sequence[str] = (),
    kind: Kind = "one-in",
    seeds: int = 5,
    seed: int = 0,
    weights: str | None = None,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    unequal: bool = False,
    name: str | None = None,
    runs: str | Path = "runs",
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Compare factors over a base and return the finished folder with its results.

    factors: see ablate.factors. base: a name of RECIPES; None: what suits the pictures. overrides: changes of the
    base, in every row. kind: see ablate.design.combinations. seeds: how many, from `seed` on. workers: processes; None:
    one, on CUDA one a device. unequal: rows may differ in epochs.
    listener: hears the events of foveate.events; None: lines on stderr, or nothing where progress is False.
    Raises ConfigError, DataError, Interrupted.
    """
    listener = hear(listener, progress)
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected 1 or more; intervals over seeds need 2, exact tests 6")
    place = check_device(device)
    count = workers_for(workers, place)
    check_writable(runs)
    request = Request(
        data=str(data),
        model=model,
        base=base,
        changes=tuple(overrides),
        factors=parse_factors(factors),
        kind=kind,
        seeds=tuple(range(seed, seed + seeds)),
        weights=weights,
        device=place,
        bad_files=bad_files,
        follow_links=follow_links,
        threads=max(1, (os.cpu_count() or 1) // count) if count > 1 and place == "cpu" else 0,
        unequal=unequal,
    )
    folder, listener = begin(request, runs, f"ablation-{name}" if name else "", listener)
    return _finished(folder, count, False, listener)


def begin(request: Request, runs: str | Path, name: str, listener: Listener) -> tuple[Path, Listener]:
    """Make the folder of an ablation below `runs`, ready for its trials, and the listener of this process.

    name: of the folder; a number follows. "": the data's. Raises ConfigError, DataError.
    """
    with ranks.joined("cpu"):  # only to agree on the folder: under torchrun every process is a worker of its own
        first, folder = ranks.rank() == 0, None
        if first:
            made = design(request, listener, command_line())
            facts = environment()
            with unbroken():
                folder = free_name(runs, name or f"ablation-{made.name}")
                write_json(folder / "env.json", facts)
                write_json(folder / "ablation.json", made)
        folder = ranks.agreed(folder)
    return Path(str(folder)), listener if first else silent


def resume_ablation(
    folder: str | Path,
    *,
    workers: int | None = None,
    retry: bool = False,
    listener: Listener | None = None,
    command: str = "foveate ablate",
) -> Run:
    """Do what is left of an ablation, beside other processes that do the same, and write its results.

    retry: failed trials run again. command: whose `--resume` an interruption names, with the folder behind it, or the
    whole line where it has a --resume of its own. ConfigError where the folder names weights on a hub that were never
    fetched here.
    """
    for row in load_ablation(Path(folder)).rows:
        if (weights := row.plan.weights or "").startswith(PREFIX) and not is_fetched(weights):
            raise ConfigError(
                f"{folder}: it begins with {weights}, and a folder may not say what is fetched; where you trust that "
                f"repository, fetch it first: hf download {weights.removeprefix(PREFIX).partition('@')[0]}"
            )
    return _finished(Path(folder), workers, retry, listener or silent, command)


def _finished(
    folder: Path, workers: int | None, retry: bool, listener: Listener, command: str = "foveate ablate"
) -> Run:
    """Take part in an ablation that the user began, or that may go on, until all has its result."""
    ablation = load_ablation(folder)
    count = workers_for(workers, ablation.rows[0].plan.device)
    if retry:
        again = [forget(folder / "trials" / ablation.folder(*trial)) for trial in ablation.trials]
        listener(StageEvent(f"{sum(again)} failed trials run again"))
    with stop_on_signals() as stop, named_interrupt(folder, command):
        if count > 1 and len(ablation.trials) > 1:
            SharedTrials(worker, folder, ablation, min(count, len(ablation.trials)), listener).run(stop)
        else:
            use_own_device(ablation)
            work(folder, ablation, listener, stop)
        found = results(ablation, outcomes(folder, ablation))
        # processes that finish together write their equal reports one after the other
        with folder_lock(folder, wait_s=REPORT_S, cancelled=lambda: bool(stop.signal)):
            write_report(folder, found)
    if all(not row["test"] for row in found["rows"]):
        raise FoveateError(f"{folder}: every trial failed, the first with: {found['rows'][0]['failed'][0]['text']}")
    return Run(folder, {"folder": str(folder), **found})


def load_ablation(folder: Path) -> Ablation:
    """ablation.json of a folder. ConfigError where there is none."""
    path = folder / "ablation.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no ablation.json here; expected a folder such as runs/ablation-photos-1")
    return read_ablation(parse_json(path.read_bytes(), str(path)), str(path))


def work(folder: Path, ablation: Ablation, listener: Listener, stop: Stop) -> None:
    """Take trials until all have a result; wait for those that other processes have."""
    waiting = False
    while True:
        busy = [trial for trial in ablation.trials if not done(folder, ablation, trial)]
        taken = False
        for trial in busy:
            if stop.signal:
                raise Interrupted("stopped", exit_code(stop.signal))
            place = folder / "trials" / ablation.folder(*trial)
            with claimed(place) as mine:
                if mine and result(place) is None:
                    listener(TrialEvent(row=trial[0], place=trial[1]))
                    run_trial(place, ablation, *trial, numbered(listener, ablation, trial))
                    taken, waiting = True, False
                    tell(listener, folder, ablation, trial)
        if not busy:
            return
        if not taken:
            if not waiting:
                listener(StageEvent(f"waiting for {len(busy)} trials of other processes"))
            waiting = True
            time.sleep(PAUSE_S)


def done(folder: Path, ablation: Ablation, trial: tuple[int, int]) -> bool:
    """Whether a trial has its result. What a process killed right after it left behind is tidied up."""
    place = folder / "trials" / ablation.folder(*trial)
    if not (place / RESULT).exists():
        return False
    if (place / "state").exists():
        with claimed(place) as mine:
            if mine:
                tidy(place)
    return True


def numbered(listener: Listener, ablation: Ablation, trial: tuple[int, int]) -> Listener:
    """A listener that says which trial speaks."""
    label = name_of(ablation, trial)

    def told(event: Event) -> None:
        if isinstance(event, ReadingEvent):
            return  # once for all is enough
        listener(dataclasses.replace(event, label=label) if isinstance(event, StepEvent | EpochEvent) else event)

    return told


def outcomes(folder: Path, ablation: Ablation) -> dict[tuple[int, int], Mapping[str, Any]]:
    """result.json of every trial."""
    found = {}
    for trial in ablation.trials:
        one = result(folder / "trials" / ablation.folder(*trial))
        if one is None:
            raise FoveateError(f"{folder}: the result of {name_of(ablation, trial)} is gone; run it again")
        found[trial] = one
    return found


@contextmanager
def named_interrupt(folder: Path, command: str = "foveate ablate") -> Iterator[None]:
    """An interruption says how this ablation, not the run inside it, goes on."""
    command = command if " --resume " in command else f"{command} --resume {folder}"
    try:
        with resumable(command):
            yield
    except Interrupted as error:
        raise Interrupted(f"stopped and saved; go on with: {command}", error.exit_code) from None


def workers_for(workers: int | None, device: str) -> int:
    """How many processes: as asked, else one, on CUDA one a device. Under torchrun one, for it started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return 1
    if workers is not None:
        if workers < 1:
            raise ConfigError(f"--workers {workers}: expected 1 or more")
        return workers
    if device == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def use_own_device(ablation: Ablation) -> None:
    """Under torchrun: the CUDA device of this process's number."""
    if ablation.rows[0].plan.device == "cuda" and "LOCAL_RANK" in os.environ:
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def worker(folder: str, parent: int) -> int:
    """What a worker process runs: trials until none is left. It stops, with all saved, when its parent is gone."""

    def listener(event: Event) -> None:
        if isinstance(event, StepEvent | StageEvent) and is_orphan(parent):
            os.kill(os.getpid(), signal.SIGTERM)  # noted by whoever handles signals now
        if isinstance(event, TrialEvent):  # read by the parent, should this process be killed
            print(f"trial {event.row} {event.place}", flush=True)

    with stop_on_signals() as stop, named_interrupt(Path(folder)):
        work(Path(folder), load_ablation(Path(folder)), listener, stop)
    return 0
