"""What each way to a network found in a race, and what it took: the zoo, and a search beside it."""

from pathlib import Path
from typing import Any

from foveate.config import parse_json
from foveate.runs.request import read_beside

TRIAL = ", trial "  # in the name of a net that a search found


def ways(run: Path) -> list[dict[str, Any]]:
    """A row for the zoo and one for the search: way, nets (measured), raced, best (a name, or None), val_accuracy (0 to
    1, of the race's last round), chosen (whether the run is of it), seconds. run: folder of a fit that is finished.
    """
    search = run.parent / read_beside(run).get("search", "search")
    story = read(run / "story.json")
    trials = read(search / "results.json").get("trials", [])
    took = sum(float(t["seconds"] or 0.0) for t in trials) + float(read(search / "supernet.json").get("seconds", 0.0))
    made = []
    for way, seconds in (("zoo", float(story.get("race_seconds", 0.0))), ("search", took)):
        rows = [row for row in story.get("candidates", []) if (TRIAL in row["model"]) is (way == "search")]
        raced = [row for row in rows if row.get("val_accuracy") is not None]
        best = max(raced, key=lambda row: float(row["val_accuracy"]), default=None)
        found = {"best": best and best["model"], "val_accuracy": best and best["val_accuracy"]}
        chosen = any(row.get("chosen") for row in rows)
        made.append({"way": way, "nets": len(rows), "raced": len(raced), **found, "chosen": chosen, "seconds": seconds})
    return made


def read(path: Path) -> dict[str, Any]:
    """A JSON file; empty where there is none."""
    found: dict[str, Any] = parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
    return found
