"""foveate analyse: look inside a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.budget import Time, read
from foveate.cli.options.data import DataOrNone, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import Resume, RunOptions, refuse_beside_resume, require
from foveate.errors import ConfigError
from foveate.report.units import percent

EXAMPLE = "Example: foveate analyse runs/photos-1/best photos"
PARTS = "curvature,sphere,features,gates,robustness,redundancy"


@command_of
def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Model or run folder, or a name of the zoo.", show_default=False),
    ] = None,
    data: DataOrNone = None,
    *,
    what: Annotated[str, typer.Option("--what", metavar="PARTS", help="Parts, with commas.")] = PARTS,
    time: Time = "5m",
    beside: Annotated[
        str | None, option("--beside", metavar="MODEL2", help="A second network on the same pictures.")
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", min=32, max=100_000, help="Drawn from train, and as many from test or val.")
    ] = 512,
    elr: Annotated[
        str | None, option("--elr", metavar="LOW:HIGH", help="Sweep of effective rates, e.g. 1e-4:1.")
    ] = None,
    masks: Annotated[int, typer.Option("--masks", min=0, max=100, help="Pictures that masks are drawn over.")] = 10,
    resume: Resume = None,
    place: RunOptions,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Look inside a network: what limits it here.

    Curvature and rates, effective rates, features, gates, robustness, redundancy; and at most three lines of advice.
    """
    if resume is None:
        require({"MODEL": model, "DATA": data}, "foveate analyse MODEL DATA, or --resume RUN")
    else:
        refuse_beside_resume(resume, {}, ("time",))
    time_s, rates = units.time_s("--time", time), read(effective_rates, "--elr", elr)
    parts = [part.strip() for part in what.split(",") if part.strip()]
    networks = [None if text is None or resume else network(text) for text in (model, beside)]
    from foveate.workflows.analyse.run import analyse

    with show.progress(quiet) as listener:
        run = analyse(
            networks[0] or "",
            data or "",
            what=parts,
            time_s=time_s,
            beside=networks[1],
            pictures=pictures,
            elr=rates,
            masks=masks,
            resume=resume,
            listener=listener,
            **place.keywords(),
        )
    output.answer(run.summary, lambda: lines(run.summary))


def network(text: str) -> str:
    """A folder with a config.json, or the text where it names no path: a variant of the zoo."""
    is_path = text.startswith("hf-hub:") or Path(text).exists() or "/" in text
    return str(model_folder(text)) if is_path else text


def effective_rates(name: str, text: str) -> tuple[float, float]:
    """ "1e-4:1" -> (1e-4, 1.0); "1e-3" -> (1e-3, 1e-3)."""
    low, _, high = text.partition(":")
    try:
        found = float(low), float(high or low)
    except ValueError:
        found = 0.0, 0.0
    if not 0 < found[0] <= found[1] < float("inf"):
        raise ConfigError(f'{name} "{text}": expected LOW:HIGH above 0, such as 1e-4:1')
    return found


def lines(s: Mapping[str, Any]) -> list[str]:
    """A line a part, then the advice."""
    out = [f"{part:<11} {said(part, s[part])}" for part in PARTS.split(",") if part in s]
    if other := s.get("beside"):
        out.append(f"beside      {other['model']}")
        out += [f"{part:<11} {said(part, other[part])}" for part in PARTS.split(",") if part in other]
    out += [f"advice      {line}" for line in s["advice"]] or ["advice      nothing stands out"]
    out.append(f"report      {s['report']}")
    return out


def said(part: str, found: Mapping[str, Any]) -> str:
    """What was found, in a line."""
    if "reason" in found:
        return str(found["reason"])
    return str(TELL[part](found))


def curvature_line(f: Mapping[str, Any]) -> str:
    """Extremes and trace."""
    text = f"top {number(f['top'])} · bottom {number(f['bottom'])} · trace {number(f['trace'])}"
    low, high = f["trace_interval"]
    text += f" ({number(low)} to {number(high)}) · {f['batch']} pictures"
    return text + f" · largest rate of SGD {number(f['sgd_rate'])}"


def sphere_line(f: Mapping[str, Any]) -> str:
    """Share of invariant parameters, effective rate, borders."""
    text = f"{percent(f['share'])} % of the parameters are scale-invariant"
    text += f" · effective rate {number(f['elr'])} at lr {number(f['lr'])}"
    regimes = " ".join(f"{number(run['elr'])}={run['regime']}" for run in f["runs"])
    return text + (f" · {regimes}" if regimes else "")


def features_line(f: Mapping[str, Any]) -> str:
    """The last stage."""
    last = f["stages"][-1]
    dead = sum(stage["dead"] for stage in f["stages"])
    return (
        f"{last['name']}: rank {last['rank']} of {last['channels']}, effective {number(last['effective_rank'])},"
        f" correlation {number(last['correlation'])} · {dead} dead channels"
    )


def gates_line(f: Mapping[str, Any]) -> str:
    """How many, how many idle."""
    return f"{len(f['idle'])} of {len(f['gates'])} idle · {percent(f['params_ratio'])} % more parameters than without"


def robustness_line(f: Mapping[str, Any]) -> str:
    """Clean accuracy, each corruption at severity 3, attacks."""
    text = f"clean {percent(f['clean']['accuracy'])} %"
    for row in f["corruptions"]:
        text += f" · {row['kind']} {percent(row['accuracy'])} %" if row["severity"] == 3 else ""
    return text + "".join(f" · {name} {percent(row['accuracy'])} %" for name, row in f["attacks"].items())


def redundancy_line(f: Mapping[str, Any]) -> str:
    """The rates."""
    return " · ".join(f"at most {percent(at['rate'])} % at tau {tau}" for tau, at in f["rates"].items())


def number(value: float | None) -> str:
    """Three digits, a dash for nothing."""
    return "-" if value is None else f"{value:.3g}"


TELL = {
    "curvature": curvature_line,
    "sphere": sphere_line,
    "features": features_line,
    "gates": gates_line,
    "robustness": robustness_line,
    "redundancy": redundancy_line,
}
