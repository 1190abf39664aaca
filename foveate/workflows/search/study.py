"""The study of a search: where it is, what it works on, how far it is, and one worker's part of it."""

import math
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from foveate.config import from_dict, parse_json, replace
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, DataError
from foveate.runs.time_budget import TimeBudget
from foveate.search import sampler as make_sampler
from foveate.search.space import Space
from foveate.search.study import Found, found, open_study, quiet, work
from foveate.search.workers import patient, shared_storage
from foveate.workflows.search.design import FEWEST, Search, fitted_space, is_code
from foveate.workflows.search.evaluators import ahead_s
from foveate.workflows.search.in_time import trials_until
from foveate.workflows.search.objective import Objective, material

STUDY, ENDLESS = "search", 10**6
STUDY_FILE = "study.db"
URL_WITHOUT_PASSWORD = re.compile(r"//[^/@]*@")  # what goes before the @ is a secret


def load_search(folder: Path) -> Search:
    """search.json of a folder, as it is written there: see trusted. ConfigError where there is none."""
    path = folder / "search.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no search.json here; expected a folder such as runs/search-photos-1")
    design: Search = from_dict(Search, parse_json(path.read_bytes(), str(path)), str(path))
    return design


def trusted(folder: Path, space: str | None = None, storage: str | None = None) -> Search:
    """The search of a folder as far as a folder may say what is done; ConfigError says what to name.

    A folder can come from anybody, so it names no code and no database: a Python file of a space counts when the caller
    names it again (space), a database that is no file in the folder when it is named again (storage).
    """
    design = load_search(folder)
    return replace(design, space=_space_of(folder, design, space), storage=_storage_of(folder, design, storage))


def resume_command(folder: Path, design: Search) -> str:
    """How to go on with a search: with the file of its space and its database named again, where it has such."""
    words = ["foveate", "search", "--resume", str(folder)]
    words += ["--space", design.space] if is_code(design.space) else []
    words += ["--storage", URL_WITHOUT_PASSWORD.sub("//***@", design.storage)] if design.storage else []
    return shlex.join(words)


def _space_of(folder: Path, design: Search, named: str | None) -> str:
    """The space to search: what the folder says, or the Python file that the caller named again."""
    if not is_code(design.space):
        if named not in (None, design.space):
            raise ConfigError(f"--space {named}: this search has {design.space}; leave --space out beside --resume")
        return design.space
    if named is None:
        again = shlex.join(["foveate", "search", "--resume", str(folder), "--space", design.space])
        raise ConfigError(
            f"{folder}: its space is Python code, {design.space}, and a folder may not say what code is run; "
            f"where you trust that file, name it again: {again}"
        )
    if Path(named).name != Path(design.space).name:
        raise ConfigError(f"--space {named}: this search has {design.space}; name that file, wherever it is")
    return named


def _storage_of(folder: Path, design: Search, named: str | None) -> str:
    """The database to open: the caller's, or else a file in the folder itself ("": study.db)."""
    if named is not None and not design.storage:
        raise ConfigError(f"--storage: this search has its study in {folder / STUDY_FILE}; leave --storage out")
    if named is not None:
        return named
    url = design.storage or f"sqlite:///{folder / STUDY_FILE}"
    place = url.removeprefix("sqlite:///")
    if (
        place == url
        or "?" in place.removeprefix(str(folder))
        or not Path(place).resolve().is_relative_to(folder.resolve())
    ):
        what = f"--storage {URL_WITHOUT_PASSWORD.sub('//***@', url)}" if design.storage else "put the file itself there"
        raise ConfigError(
            f"{folder}: its study is a database outside the folder, and a folder may not say what is opened; "
            f"where it is yours, {'name it again: ' if design.storage else ''}{what}"
        )
    return design.storage


def opened(design: Search) -> tuple[Dataset, Space]:
    """The pictures and the space of a search."""
    dataset = open_data(design.data, seed=design.seed, bad_files=design.bad_files, follow_links=design.follow_links)
    if dataset.fingerprint != design.fingerprint:
        raise DataError(f"{design.data}: the pictures changed since the search began; start a new one")
    return dataset, fitted_space(design.space, dataset, None)[1]


def url_of(folder: Path, design: Search) -> str:
    """Where the study is."""
    return design.storage or f"sqlite:///{(folder / STUDY_FILE).absolute()}"


def study_name(folder: Path, design: Search) -> str:
    """In a file of its own any name will do; in a shared database the pictures and the space tell studies apart."""
    return f"{design.name} {design.space} {design.fingerprint[:12]}" if design.storage else STUDY


def over_time(design: Search, known: Sequence[Found], workers: int, ahead: float = 0.0) -> bool:
    """Whether trials have used the search's share of the time, `ahead` seconds of it before the first; FEWEST are
    always made.
    """
    limit = design.budget.time_s
    return limit is not None and len(known) >= FEWEST and spent(known, workers) + ahead >= design.share * limit


def spent(known: Sequence[Found], workers: int) -> float:
    """Wall seconds that the trials took, shared by so many processes."""
    return sum(float(f.facts.get("seconds", 0.0)) for f in known) / workers


def serve(
    design: Search, url: str, name: str, workers: int, stop: Callable[[], bool], folder: Path | None = None
) -> None:
    """One of several workers: trials, until there are enough, the time is over, or stop() is true.

    folder: of the search, for the weights of a supernet; None: there are none.
    """
    dataset, space = opened(design)
    ahead = 0.0 if folder is None else ahead_s(folder)
    with shared_storage(url) as storage:
        sampler = make_sampler(design.sampler, space, design.seed + os.getpid())
        with quiet():
            study = patient(lambda: open_study(sampler, design.directions, storage, name))
        whole, used = design.budget.time_s or math.inf, spent(found(space, study), workers) + ahead
        until = trials_until(design, TimeBudget(whole, time.monotonic() - used))
        goods = material(design, space, dataset, lambda: found(space, study), folder or Path(), until)
        objective = Objective(goods)
        work(
            space,
            objective,
            sampler,
            budget=design.trials or ENDLESS,
            storage=storage,
            name=name,
            directions=design.directions,
            stop=lambda: stop() or over_time(design, found(space, study), workers, ahead),
        )
