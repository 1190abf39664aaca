"""The half of foveate search that compares searchers on a table of trained nets."""

from foveate.cli.options import print_json


def on_table(
    table: str,
    space: str,
    *,
    sampler: str,
    observe: str | None,
    report: str | None,
    objectives: str | None,
    reference: str | None,
    baseline: str | None,
    trials: int | None,
    seeds: int,
    as_json: bool,
) -> None:
    """Print, per budget, mean, deviation and standard error of the reported column at the best observed net."""
    from foveate.config import to_dict
    from foveate.errors import ConfigError
    from foveate.search import SAMPLERS, SINGLE, load_space
    from foveate.search.compare import compare, compare_fronts, markdown
    from foveate.search.tables import read_table

    chosen = load_space(space)
    if objectives is None and (observe is None or report is None):
        raise ConfigError("a table needs --observe COLUMN and --report COLUMN, or --objectives COLUMN,COLUMN")
    if objectives is not None and (observe or report or baseline):
        raise ConfigError("--objectives stands alone; leave out --observe, --report and --baseline")
    read = read_table(table, chosen)
    names = [sampler] if sampler != "all" else [n for n in SAMPLERS if objectives is None or n not in SINGLE]
    most = trials or (200 if objectives is None else 500)
    steps = (25, 50, 100, 200) if objectives is None else (100, 200, 500)
    budgets = sorted({*(step for step in steps if step < most), most})
    if objectives is None:
        assert observe is not None and report is not None
        found = list(compare(read, chosen, names, observe, report, budgets, seeds, baseline))
        asked = {"observe": observe, "report": report}
    else:
        corner = numbers(reference) if reference is not None else None
        found = list(compare_fronts(read, chosen, names, objectives.split(","), budgets, seeds, corner))
        asked = {"objectives": objectives}
    if as_json:
        print_json({"table": read.name, "space": space, "nets": len(read.rows), **asked, "results": to_dict(found)})
    else:
        print(f"{read.name} · {len(read.rows):,} nets · {' · '.join(f'{k} {v}' for k, v in asked.items())}")
        print(f"mean (standard deviation) over {seeds} seeds, by number of different nets\n")
        print(markdown(found))


def numbers(text: str) -> list[float]:
    """ "80,230e6" -> [80.0, 230e6]."""
    from foveate.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'--reference "{text}": expected numbers such as 80,230e6') from None
