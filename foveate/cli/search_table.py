"""The half of foveate search that compares searchers on a table of trained nets."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options.declare import option
from foveate.cli.options.output import Output
from foveate.errors import ConfigError


@dataclass(frozen=True)
class TableOptions:
    """What is compared on a table: its columns and the number of searches."""

    observe: Annotated[str | None, option("--observe", metavar="COLUMN", help="Table: what the search sees.")] = None
    report: Annotated[
        str | None, option("--report", metavar="COLUMN", help="Table: what is reported of its choice.")
    ] = None
    reference: Annotated[str | None, option("--reference", metavar="X,Y", help="Table: where hypervolumes begin.")] = (
        None
    )
    baseline: Annotated[
        str | None, option("--baseline", metavar="COLUMN", help="Table: also the nets with the largest of this.")
    ] = None
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=10_000, help="Table: searches per sampler.")] = 20

    def refuse_with_pictures(self, data: str | None) -> None:
        """ConfigError for a column where DATA holds pictures."""
        columns = ("observe", "report", "reference", "baseline")
        if given := [name for name in columns if getattr(self, name) is not None]:
            raise ConfigError(f"--{given[0]} goes with a table of trained nets; {data} holds pictures")


def is_table(path: str) -> bool:
    """Whether a path is a table of trained nets: JSON, or a CSV without the columns path and label of pictures."""
    import csv

    file = Path(path)
    if file.suffix.lower() == ".json":
        return True
    if file.suffix.lower() != ".csv" or not file.is_file():
        return False
    with open(file, newline="", encoding="utf-8", errors="replace") as lines:
        header = next(csv.reader([lines.readline(100_000)]), [])
    return not {"path", "label"} <= {name.strip() for name in header}


def search_on_table(
    table: str,
    space: str,
    options: TableOptions,
    *,
    sampler: str,
    objectives: str | None,
    trials: int | None,
    output: Output,
) -> None:
    """Print, per budget, mean, deviation and standard error of the reported column at the best observed net."""
    from foveate.config import to_dict
    from foveate.search import SAMPLERS, SINGLE, load_space
    from foveate.search.compare import compare, compare_fronts, markdown
    from foveate.search.tables import read_table

    chosen, observe, report, seeds = load_space(space), options.observe, options.report, options.seeds
    if objectives is None and (observe is None or report is None):
        raise ConfigError("a table needs --observe COLUMN and --report COLUMN, or --objectives COLUMN,COLUMN")
    if objectives is not None and (observe or report or options.baseline):
        raise ConfigError("--objectives stands alone; leave out --observe, --report and --baseline")
    read = read_table(table, chosen)
    names = [sampler] if sampler != "all" else [n for n in SAMPLERS if objectives is None or n not in SINGLE]
    most = trials or (200 if objectives is None else 500)
    steps = (25, 50, 100, 200) if objectives is None else (100, 200, 500)
    budgets = sorted({*(step for step in steps if step < most), most})
    found: list[Any]
    if objectives is None:
        assert observe is not None and report is not None
        found = list(compare(read, chosen, names, observe, report, budgets, seeds, options.baseline))
        asked = {"observe": observe, "report": report}
    else:
        corner = numbers(options.reference) if options.reference is not None else None
        found = list(compare_fronts(read, chosen, names, objectives.split(","), budgets, seeds, corner))
        asked = {"objectives": objectives}

    def lines() -> Iterable[str]:
        yield f"{read.name} · {len(read.rows):,} nets · {' · '.join(f'{k} {v}' for k, v in asked.items())}"
        yield f"mean (standard deviation) over {seeds} seeds, by number of different nets\n"
        yield markdown(found)

    about = {"table": read.name, "space": space, "nets": len(read.rows), **asked}
    output.answer({**about, "results": to_dict(found)}, lines)


def numbers(text: str) -> list[float]:
    """ "80,230e6" -> [80.0, 230e6]."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'--reference "{text}": expected numbers such as 80,230e6') from None
