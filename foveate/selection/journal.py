"""What a fit has found so far, written down as it comes, so that a killed one goes on from there.

In the run folder: candidates.json (what was measured), race.json (who races, and the rounds that are over), race/ (the
networks of candidates that train from scratch, after their last round). A journal without a folder writes nothing.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from foveate.config import from_dict, parse_json, record, to_dict
from foveate.cost.latency import Latency
from foveate.data.preprocess import Preprocess
from foveate.files import crashpoint, write_json
from foveate.runs.plan import Architecture
from foveate.selection.candidates import Candidate, Measured

CANDIDATES, RACE, NETWORKS = "candidates.json", "race.json", "race"
Number = Annotated[int, Field(ge=0)]


@record
class CandidateRow:
    """A measured candidate as candidates.json holds it."""

    model: str
    config: Architecture
    preprocess: Preprocess
    weights: str | None
    latency: Latency
    size_bytes: int
    macs: int
    params: int
    memory_bytes: int | None = None


@record
class Candidates:
    """candidates.json. complete: nothing more is looked at, and the order counts."""

    complete: bool = False
    measured: tuple[CandidateRow, ...] = ()


@record
class Round:
    """A round (from 1) of the race that is over, of a candidate by its place in candidates.json."""

    candidate: Number
    round: Number
    val_accuracy: float
    val_loss: float
    seconds: float


@record
class Race:
    """race.json: who races in each heat, by places in candidates.json, and the rounds that are over."""

    heats: tuple[tuple[Number, ...], ...] = ()
    rounds: tuple[Round, ...] = ()


@dataclass
class Journal:
    """Opened by whoever holds the folder's lock; None: nothing is kept."""

    folder: Path | None = None
    complete: bool = False  # whether all that is looked at is measured
    measured: list[Measured] = field(default_factory=list)
    heats: list[list[int]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> "Journal":
        """The journal of a run folder, with what stands there. ConfigError where that is none."""
        journal = cls(folder)
        if (path := folder / CANDIDATES).is_file():
            found: Candidates = from_dict(Candidates, parse_json(path.read_bytes(), str(path)), str(path))
            journal.complete, journal.measured = found.complete, [of_row(row) for row in found.measured]
        if journal.complete and (path := folder / RACE).is_file():
            race: Race = from_dict(Race, parse_json(path.read_bytes(), str(path)), str(path))
            journal.heats, journal.rounds = [list(heat) for heat in race.heats], list(race.rounds)
        return journal

    def known(self, candidate: Candidate) -> Measured | None:
        """This candidate as it was measured before."""
        return next((m for m in self.measured if m.candidate == candidate), None)

    def add(self, measured: Measured) -> None:
        """One more candidate is measured."""
        self.measured.append(measured)
        self._write_candidates()
        crashpoint("fit.measured")

    def finish_looking(self, measured: Sequence[Measured]) -> None:
        """Nothing more is looked at: these are all, in the order that counts."""
        self.complete, self.measured = True, list(measured)
        self._write_candidates()
        crashpoint("fit.looked")

    def enter(self, heat: int, entering: Sequence[Measured]) -> list[Measured]:
        """Who races in a heat: these, or who did before."""
        if heat < len(self.heats):
            return [self.measured[i] for i in self.heats[heat]]
        if self.folder is not None:
            self.heats.append([self._place(m) for m in entering])
            self._write_race()
        return list(entering)

    def round_of(self, measured: Measured, number: int) -> Round | None:
        """A round of a candidate, where it is over."""
        if self.folder is None:
            return None
        place = self._place(measured)
        return next((r for r in self.rounds if (r.candidate, r.round) == (place, number)), None)

    def add_round(self, measured: Measured, number: int, accuracy: float, loss: float, seconds: float) -> None:
        """A round of a candidate is over; what its network became lies in network(...) before."""
        if self.folder is not None:
            self.rounds.append(Round(self._place(measured), number, accuracy, min(loss, 1e9), seconds))
            self._write_race()
        crashpoint("fit.round")

    def network(self, measured: Measured) -> Path | None:
        """The folder for the network of a candidate that trains from scratch."""
        return None if self.folder is None else self.folder / NETWORKS / str(self._place(measured))

    def drop_networks(self) -> None:
        """The race is over: what is left of it stands elsewhere."""
        if self.folder is not None:
            shutil.rmtree(self.folder / NETWORKS, ignore_errors=True)

    def _place(self, measured: Measured) -> int:
        return next(i for i, m in enumerate(self.measured) if m is measured)

    def _write_candidates(self) -> None:
        if self.folder is not None:
            rows = tuple(to_row(m) for m in self.measured)
            write_json(self.folder / CANDIDATES, Candidates(self.complete, rows))

    def _write_race(self) -> None:
        if self.folder is not None:
            race = Race(tuple(map(tuple, self.heats)), tuple(self.rounds))
            write_json(self.folder / RACE, race)


def to_row(m: Measured) -> CandidateRow:
    """A measured candidate as it is written."""
    c = m.candidate
    facts: dict[str, Any] = {"size_bytes": m.size_bytes, "macs": int(m.macs), "params": int(m.params)}
    return CandidateRow(c.model, c.config, c.preprocess, c.weights, m.latency, **facts, memory_bytes=m.memory_bytes)


def of_row(row: CandidateRow) -> Measured:
    """A measured candidate as it was written."""
    candidate = Candidate(row.model, row.config, row.preprocess, row.weights)
    return Measured(candidate, row.latency, row.size_bytes, row.macs, row.params, row.memory_bytes)


def plain(candidate: Candidate) -> dict[str, Any]:
    """A candidate as plain data."""
    found: dict[str, Any] = to_dict(candidate)
    return found
