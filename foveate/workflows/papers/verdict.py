"""What a result says of a claim: it holds, it does not hold, or it is not settled.

more, less   holds: the interval is on the claimed side of 0, and p is below 5 % after Holm's correction within the
             table. does not hold: the interval is on the other side, likewise; or within +-d/2 of 0, where d is the
             claimed effect: it is shown to be smaller than half of what was claimed.
same         holds: the interval is within +-margin (two one-sided tests at 2.5 %). does not hold: the interval lies
             outside of +-margin altogether.
not settled  all else, with the seeds that would settle it at the scatter seen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from foveate.workflows.ablate.stats import holm, of_differences
from foveate.workflows.papers.power import seeds_to_settle
from foveate.workflows.papers.table import Contrast, Found, published

Verdict = Literal["holds", "not settled", "does not hold"]
HOLDS: Verdict = "holds"
OPEN: Verdict = "not settled"
FAILS: Verdict = "does not hold"
LEVEL = 0.05


def rows_of(contrasts: Sequence[Contrast], found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """A row a contrast: paper, here, interval, verdict, in the order of the table. Without values: not settled."""
    rows = [_row(c, found.get(c.label)) for c in contrasts]
    tested = [row for row, c in zip(rows, contrasts, strict=True) if c.claim != "same"]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
    for row, c in zip(rows, contrasts, strict=True):
        row["verdict"] = judge(c, row["here"], row["interval"], row["p_holm"])
        if row["verdict"] == OPEN and c.claim != "same" and row["sd"] and row["here"]:
            row["seeds_to_settle"] = seeds_to_settle(row["here"], row["sd"], len(tested))
        if row["verdict"] == OPEN and c.claim == "same" and row["sd"] and abs(row["here"]) < c.margin:
            row["seeds_to_settle"] = seeds_to_settle(c.margin - abs(row["here"]), row["sd"])
    return rows


def _row(contrast: Contrast, found: Found | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "label": contrast.label,
        "claim": contrast.claim,
        "margin": contrast.margin if contrast.claim == "same" else None,
        "main": contrast.main,
        "unit": contrast.published.unit,
        "published": published(contrast),
        **dict.fromkeys(("here", "interval", "sd", "p", "p_holm", "seeds_to_settle")),
        "n": len(found.values) if found else 0,
        "values": list(found.values) if found else [],
        "note": found.note if found else "no value: every training of it failed",
    }
    if found is None or not found.values:
        return row
    row["here"] = math.fsum(found.values) / len(found.values)
    if found.given:
        row["interval"] = [found.low, found.high]
    elif len(found.values) > 1:
        d = of_differences(found.values)
        if d.low is None:  # an interval of width 0 would claim too much
            row["note"] = row["note"] or "the same in every seed, so there is no interval"
        else:
            row["sd"], row["p"], row["interval"] = d.sd, d.p, [d.low, d.high]
    return row


def judge(
    contrast: Contrast, here: float | None, interval: Sequence[float] | None, p_holm: float | None = None
) -> Verdict:
    """The verdict on one contrast. p_holm: None where the interval is not of a test over repeats."""
    if here is None or interval is None:
        return OPEN
    low, high = interval
    if contrast.claim == "same":
        m = contrast.margin
        return HOLDS if -m < low and high < m else FAILS if low > m or high < -m else OPEN
    sure = p_holm is None or p_holm < LEVEL
    if contrast.claim == "less":
        low, high = -high, -low
    if sure and low > 0:
        return HOLDS
    if sure and high < 0:
        return FAILS
    d = contrast.size
    return FAILS if d is not None and -d / 2 < low and high < d / 2 else OPEN


def of_table(rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Of the rows that the claim needs: all hold; one does not; else it is open."""
    verdicts = [row["verdict"] for row in rows if row["main"]]
    return HOLDS if all(v == HOLDS for v in verdicts) else FAILS if FAILS in verdicts else OPEN
