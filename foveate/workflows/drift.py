"""foveate data drift: what a server was asked, day by day, beside what is usual for its model. No torch."""

import base64
import datetime
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.index import open_data
from foveate.data.preprocess import framed, needed
from foveate.data.read.decode import opened
from foveate.data.read.formats import BadImage, shown
from foveate.deploy.answer import answer_rows
from foveate.deploy.runtime import Session, open_session, read_file
from foveate.deploy.trust_graph import FEATURES, LOGITS, STRANGENESS
from foveate.errors import ConfigError, DataError, FoveateError
from foveate.files import read_lines, write_bytes
from foveate.serve.log import SCHEMA
from foveate.serve.models import SHARE, find
from foveate.trust.drift import energy, share_p, standardised, wilson

LEAST = 20  # pictures of a day that say something
MOST = 400  # of a day, and of the reference, that are compared
LEVEL = 0.05  # chance of a false alarm in all days together
USEFUL = 50  # pictures handed to data review
CAN_NOT_SAY = "a change that the model's outputs do not show; labels are not looked at"

Row = Mapping[str, Any]


def drift(
    log: str | Path,
    model: str,
    data: str | Path | None = None,
    *,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare each day of a log with the validation pictures of DATA, or with another log.

    out: a folder for the thumbnails of the least certain pictures, which `data review --unlabelled` takes.
    ConfigError where there is nothing to compare with, DataError for a log without rows of this model.
    """
    _, path = find(model)
    bytes_ = read_file(path)
    from hashlib import sha256

    fingerprint = sha256(bytes_).hexdigest()
    rows, others = read_log(Path(log), fingerprint)
    if (data is None) == (reference is None):
        raise ConfigError("what is usual? give --data DATA, whose validation pictures are, or --reference DIR, a log")
    if data is not None:
        usual, skipped = _validation(open_session(bytes_), data, seed)
    else:
        usual, _ = read_log(Path(str(reference)), fingerprint)
        skipped = 0
    found = compare(usual, rows, seed)
    handed = [] if out is None else hand_over(rows, Path(out))
    return {
        "model": str(path),
        "fingerprint": fingerprint,
        "reference": {"of": str(data or reference), "pictures": len(usual), "left_out": skipped},
        "of_other_models": others,
        **found,
        "handed_over": handed,
        "can_not_say": [CAN_NOT_SAY],
    }


def compare(usual: Sequence[Row], rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Days with their distance, share of unknown and whether they alarm. All tests together alarm in LEVEL of streams
    without a change (Bonferroni over days and tests).
    """
    if len(usual) < LEAST:
        raise DataError(f"{len(usual)} pictures to compare with; at least {LEAST} say what is usual")
    key = "features" if all("features" in row for row in (*usual, *rows)) else "logits"
    days: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        days[row["time"][:10]].append(row)
    rng = np.random.default_rng(seed)
    asks_unknown = all(row["unknown"] is not None for row in (*usual, *rows))
    known = [row["unknown"] for row in usual]
    tested = {day for day, inside in days.items() if len(inside) >= LEAST}
    limit = LEVEL / max(1, len(tested) * (2 if asks_unknown else 1))
    draws = min(20_000, max(2_000, int(4 / limit)))
    reference = _sample(np.array([row[key] for row in usual], np.float64), rng)
    found = []
    for day in sorted(days):
        inside = days[day]
        k = sum(bool(row["unknown"]) for row in inside)
        about: dict[str, Any] = {"day": day, "pictures": len(inside), "alarm": False, "why": []}
        if asks_unknown:
            low, high = wilson(k, len(inside))
            about |= {"unknown": k / len(inside), "unknown_low": low, "unknown_high": high}
        if day in tested:
            there = _sample(np.array([row[key] for row in inside], np.float64), rng)
            x, y = standardised(reference, there)
            d = energy(x, y, rng, draws)
            about |= {"distance": d.distance, "low": d.low, "high": d.high, "p": d.p}
            if d.p <= limit:
                about["why"].append("the pictures are others than usual")
            if asks_unknown:
                about["unknown_p"] = share_p(k, len(inside), sum(known), len(known))
                if about["unknown_p"] <= limit:
                    about["why"].append("more are unknown than usual")
        else:
            about["note"] = f"under {LEAST} pictures: not tested"
        about["alarm"] = bool(about["why"])
        found.append(about)
    alarms = [about["day"] for about in found if about["alarm"]]
    share = sum(map(bool, known)) / len(known) if asks_unknown else None
    return {"by": key, "p_limit": limit, "usual_unknown": share, "days": found, "alarms": alarms}


def _sample(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x if len(x) <= MOST else x[rng.choice(len(x), MOST, replace=False)]


def read_log(folder: Path, fingerprint: str) -> tuple[list[Row], int]:
    """(rows of this model in order, how many are of others). DataError where there is none."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected what serve --log-predictions wrote")
    rows: list[Row] = []
    others = 0
    for file in sorted(folder.glob("*/*.jsonl")):
        for line in read_lines(file):
            row = _row(line)
            if row is None:
                raise DataError(f"{file}: not a log of predictions")
            if row["model"] == fingerprint:
                rows.append(row)
            else:
                others += 1
    if not rows:
        what = f"{others:,} rows of other models" if others else "no rows"
        raise DataError(f"{folder}: {what}; expected predictions of the model {fingerprint[:12]}")
    return sorted(rows, key=lambda row: str(row["time"])), others


def _row(line: str) -> Row | None:
    """A line that is a row; None for what is none."""
    try:
        row = json.loads(line)
        datetime.date.fromisoformat(row["time"][:10])
        numbers = np.array([*row["logits"], row["probability"]], np.float64)
        good = row["schema"] == SCHEMA and isinstance(row["model"], str) and bool(np.isfinite(numbers).all())
    except (ValueError, KeyError, TypeError):
        return None
    return row if good and row.get("unknown") in (True, False, None) else None


def _validation(session: Session, data: str | Path, seed: int) -> tuple[list[Row], int]:
    """Rows of the validation pictures, as a server would have logged them, and how many could not be read."""
    dataset = open_data(data, seed=seed)
    split = dataset.splits.get("val") or dataset.splits["train"]
    if not split.paths or split.pixels is not None:
        raise ConfigError(f"{data}: no files to compare with; give a folder of pictures, or --reference DIR")
    rng = np.random.default_rng(seed)
    picks = np.sort(rng.permutation(len(split.paths))[: 2 * MOST])
    p, rows, bad = session.preprocess, [], 0
    for i in picks:
        try:
            with opened(split.paths[i], background=p.background, need=needed(p)) as image:
                pixels = framed(image, p)
        except (BadImage, OSError):
            bad += 1
            continue
        rows.append(_as_row(session, session.answer(pixels[None])))
    return rows, bad


def _as_row(session: Session, found: Mapping[str, np.ndarray]) -> Row:
    strange = found.get(STRANGENESS)
    keep = SHARE if strange is not None and session.trust.keep else None
    said = answer_rows(found[LOGITS], strange, session.classes, session.trust, keep=keep)[0]
    row = {"logits": found[LOGITS][0].tolist(), "probability": said.probability, "unknown": said.unknown}
    return row | ({"features": found[FEATURES][0].tolist()} if FEATURES in found else {})


def hand_over(rows: Sequence[Row], out: Path) -> list[str]:
    """Write the thumbnails of the least certain pictures into a new folder; their names."""
    shown_rows = [row for row in rows if "thumbnail" in row]
    if not shown_rows:
        raise ConfigError("--out: the log holds no thumbnails; serve with --thumbnails to have some")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {shown(str(out))}: there is something already; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for i, row in enumerate(sorted(shown_rows, key=lambda row: float(row["probability"]))[:USEFUL]):
        name = f"{str(row['time'])[:10]}-{i:03d}.jpg"
        try:
            write_bytes(out / name, base64.b64decode(row["thumbnail"], validate=True))
        except ValueError:
            raise FoveateError("a thumbnail of the log is damaged") from None
        names.append(name)
    return names
