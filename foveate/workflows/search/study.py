"""The study of a search: where it is, what it works on, how far it is, and one worker's part of it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from foveate.config import from_dict, parse_json
from foveate.data.index import Dataset, open_data
from foveate.errors import ConfigError, DataError
from foveate.search import sampler as make_sampler
from foveate.search.crew import Found, found, patient, shared_storage, work
from foveate.search.space import Space
from foveate.search.study import open_study, quiet
from foveate.workflows.search.design import LEAST, Search, fitted_space
from foveate.workflows.search.evaluators import ahead_s
from foveate.workflows.search.objective import Judge, material

STUDY, ENDLESS = "search", 10**6


def load_search(folder: Path) -> Search:
    """search.json of a folder. ConfigError where there is none."""
    path = folder / "search.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no search.json here; expected a folder such as runs/search-photos-1")
    wish: Search = from_dict(Search, parse_json(path.read_bytes(), str(path)), str(path))
    return wish


def opened(wish: Search) -> tuple[Dataset, Space]:
    """The pictures and the space of a search."""
    dataset = open_data(wish.data, seed=wish.seed, bad_files=wish.bad_files)
    if dataset.fingerprint != wish.fingerprint:
        raise DataError(f"{wish.data}: the pictures changed since the search began; start a new one")
    return dataset, fitted_space(wish.space, dataset, None)[1]


def url_of(folder: Path, wish: Search) -> str:
    """Where the study is."""
    return wish.storage or f"sqlite:///{(folder / 'study.db').absolute()}"


def study_name(folder: Path, wish: Search) -> str:
    """In a file of its own any name will do; in a shared database the pictures and the space tell studies apart."""
    return f"{wish.name} {wish.space} {wish.fingerprint[:12]}" if wish.storage else STUDY


def over_time(wish: Search, known: Sequence[Found], workers: int, ahead: float = 0.0) -> bool:
    """Whether the search has used its share of the time, `ahead` seconds of it before the first trial; LEAST trials are
    always made.
    """
    limit = wish.budget.time_s
    return limit is not None and len(known) >= LEAST and spent(known, workers) + ahead >= wish.share * limit


def spent(known: Sequence[Found], workers: int) -> float:
    """Wall seconds that the trials took, shared by so many processes."""
    return sum(float(f.facts.get("seconds", 0.0)) for f in known) / workers


def serve(
    wish: Search, url: str, name: str, workers: int, stop: Callable[[], bool], folder: Path | None = None
) -> None:
    """One of several workers: trials, until there are enough, the time is over, or stop() is true.

    folder: of the search, for the weights of a supernet; None: there are none.
    """
    dataset, space = opened(wish)
    ahead = 0.0 if folder is None else ahead_s(folder)
    with shared_storage(url) as storage:
        sampler = make_sampler(wish.sampler, space, wish.seed + os.getpid())
        with quiet():
            study = patient(lambda: open_study(sampler, wish.directions, storage, name))
        judge = Judge(material(wish, space, dataset, lambda: found(space, study), folder or Path()))
        work(
            space,
            judge,
            sampler,
            budget=wish.trials or ENDLESS,
            storage=storage,
            name=name,
            directions=wish.directions,
            stop=lambda: stop() or over_time(wish, found(space, study), workers, ahead),
        )
