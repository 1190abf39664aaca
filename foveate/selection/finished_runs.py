"""Finished runs as members of a fusion: which lie in a folder, and what each takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.data.preprocess import Preprocess
from foveate.deploy.export import export_for_timing
from foveate.deploy.measure import measure_latency
from foveate.errors import ConfigError
from foveate.runs.complete import read_plan
from foveate.runs.resume import finished


def runs_in(folder: str | Path, fingerprint: str | None) -> list[Path]:
    """Finished runs of one data set in a folder, by name; those that are fusions are left out.

    fingerprint: of the data; None: all must be of the same. ConfigError for fewer than two, and for several data sets.
    """
    found = []
    for place in sorted(Path(folder).glob("*/recipe.json")):
        summary = finished(place.parent)
        if summary is not None and "members" not in summary and (place.parent / "best" / "config.json").is_file():
            found.append((place.parent, read_plan(place.parent).fingerprint))
    if fingerprint is None and len({of for _, of in found}) > 1:
        raise ConfigError(f"--from {folder}: runs of several data sets; say which pictures with --data")
    chosen = [place for place, of in found if fingerprint in (None, of)]
    if len(chosen) < 2:
        which = "" if fingerprint is None else " of these pictures"
        raise ConfigError(f"--from {folder}: {len(chosen)} finished runs{which} there; fuse takes two or more")
    return chosen


def latencies(
    places: Sequence[str], models: Sequence[Any], views: Sequence[Preprocess], threads: int, runtime: str
) -> list[float]:
    """Milliseconds of a picture, a member each: as its run has it for this runtime and threads, else measured now."""
    found = []
    for place, model, view in zip(places, models, views, strict=True):
        path = Path(place) / "summary.json"
        told = parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
        same = told.get("threads") == threads and str(told.get("runtime", "")).lower().startswith(runtime[:4])
        if same and isinstance(told.get("latency_ms"), int | float):
            found.append(float(told["latency_ms"]))
        else:
            found.append(measure_latency(export_for_timing(model, view), view, threads, runtime=runtime).median_ms)
    return found
