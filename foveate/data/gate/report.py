"""The report of the data gate as text, JSON and CSV, each safe to print whatever the file names hold."""

import csv
import io
import json
from itertools import groupby
from typing import Any

from foveate.data.gate.check import SEVERITIES, Finding, Report
from foveate.data.read.formats import shown
from foveate.data.read.kinds import KINDS
from foveate.files import cell

SCHEMA = "foveate.data.gate.check/1"


def as_data(report: Report, strict: bool = False) -> dict[str, Any]:
    """The report as plain data for JSON. Names are exact, but bytes that are not UTF-8 stand as \\xNN.

    strict: good counts warnings too, as the exit code does.
    """
    counted = {kind: len(list(found)) for kind, found in groupby(report.findings, key=lambda f: f.kind)}
    return {
        "schema": SCHEMA,
        "source": _exact(report.source),
        "good": report.good(strict),
        "files": report.files,
        "pictures": {split: {_exact(c): n for c, n in table.items()} for split, table in report.pictures.items()},
        "imbalance": report.imbalance,
        "counts": {severity: report.count(severity) for severity in SEVERITIES},
        "kinds": {kind: {**KINDS[kind]._asdict(), "count": n} for kind, n in counted.items()},
        "findings": [
            {"kind": f.kind, "severity": f.severity, "paths": list(map(_exact, f.paths)), "reason": _exact(f.reason)}
            for f in report.findings
        ],
        "wall_s": report.wall_s,
        "summary": report.sentence(),
        "refusal": None if report.refusal is None else _exact(report.refusal),
    }


def as_json_text(report: Report, strict: bool = False) -> str:
    """as_data as JSON text in ASCII, so that nothing in it moves a terminal."""
    return json.dumps(as_data(report, strict), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def as_csv(report: Report) -> str:
    """kind,severity,path,reason,group: one row for each name. For a spreadsheet: no cell can be a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["kind", "severity", "path", "reason", "group"])
    for number, finding in enumerate(report.findings, 1):
        for path in finding.paths or ("",):
            writer.writerow([finding.kind, finding.severity, _cell(path), _cell(finding.reason), number])
    return text.getvalue()


def as_text(report: Report, first: int | None = 20) -> str:
    """The report for people: kinds, the worst first, with the first names of each (None: all) and what to do."""
    pictures = sum(sum(table.values()) for table in report.pictures.values())
    splits = ", ".join(f"{split} {sum(table.values()):,}" for split, table in report.pictures.items() if split)
    lines = [report.sentence()]
    lines.append(f"{shown(report.source)}: {pictures:,} pictures, {splits or 'not split yet'}")
    if report.refusal is not None:
        lines.append(f"error: {shown(report.refusal)}")
    for kind, group in groupby(report.findings, key=lambda f: f.kind):
        found = list(group)
        severity, title, fix = KINDS[kind]
        lines += ["", f"{severity}: {title} ({len(found):,})"]
        lines += [f"  {_line(finding)}" for finding in found[:first]]
        if first is not None and len(found) > first:
            lines.append(f"  ... and {len(found) - first:,} more; --all prints them")
        if severity != "info":
            lines.append(f"  -> {fix}")
    totals = ", ".join(
        f"{report.count(s):,} {s}{'s' if report.count(s) != 1 and s != 'info' else ''}" for s in SEVERITIES
    )
    return "\n".join([*lines, "", f"{totals}; {report.wall_s:.1f} s"]) + "\n"


def _line(finding: Finding) -> str:
    names = "  =  ".join(map(shown, finding.paths))
    return f"{names}: {shown(finding.reason)}" if names else shown(finding.reason)


def _exact(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return cell(shown(text))
