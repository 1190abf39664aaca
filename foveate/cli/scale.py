"""foveate scale: a larger or smaller form of a network, deeper, wider and of more pixels at once."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli import show, units
from foveate.cli.options.budget import Time
from foveate.cli.options.data import FollowLinks
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import Bad, BadFiles, Seed
from foveate.errors import ConfigError
from foveate.report.units import count, duration, percent, share

if TYPE_CHECKING:
    from foveate.workflows.scale import Found

EXAMPLE = "Example: foveate scale resnet20_cifar --macs 4x --data digits --time 5m"


@command_of
def command(
    model: Annotated[str, typer.Argument(metavar="NAME", help="A name (see foveate models).", show_default=False)],
    *,
    macs: Annotated[str, typer.Option("--macs", metavar="N", help="Multiply-adds: 2x, 0.5x, or 600M.")] = "2x",
    alpha: Annotated[float | None, option("--alpha", help="Growth of the depth.")] = None,
    beta: Annotated[float | None, option("--beta", help="Growth of the width.")] = None,
    gamma: Annotated[float | None, option("--gamma", help="Growth of the resolution.")] = None,
    resolution: Annotated[
        int | None, option("--resolution", low=1, high=4096, help="Pixels of the base; else its own.")
    ] = None,
    data: Annotated[str | None, option("--data", metavar="DATA", help="Find the three on these pictures.")] = None,
    time: Time = "10m",
    steps: Annotated[int, typer.Option("--steps", min=1, max=12, help="Shares of the doubling; 4: 15 candidates.")] = 4,
    seed: Seed = 0,
    bad_files: Bad = BadFiles.stop,
    follow_links: FollowLinks = False,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Scale a network to a budget of multiply-adds.

    Depth alpha^phi, width beta^phi, resolution gamma^phi: by default 1.2, 1.1 and 1.15 as EfficientNet; with --data
    those whose doubled network learns these pictures best in equal time. Of given ones, those left out are 1.
    """
    given = [f for f in (alpha, beta, gamma) if f is not None]
    if given and data is not None:
        raise ConfigError("--data finds alpha, beta and gamma; leave them out, or leave out --data")
    time_s = units.time_s("--time", time)
    factor = ratio(macs)

    from foveate.config import replace, to_dict
    from foveate.cost.count import cost
    from foveate.search.scaling import Coefficients, to_macs
    from foveate.zoo import variant

    base = variant(model)
    if resolution is not None:
        base = replace(base, resolution=resolution)
    found: Found | None = None
    if data is not None:
        from foveate.workflows.scale import grid_search

        with show.progress(quiet) as listener:
            found = grid_search(
                data,
                base,
                model,
                time_s=time_s,
                steps=steps,
                seed=seed,
                bad_files=bad_files.value,
                follow_links=follow_links,
                listener=listener,
            )
        coefficients = found.rows[0].coefficients
        base = replace(base, num_classes=found.rows[0].scaled.config.num_classes)
    elif given:
        named = {"alpha": alpha, "beta": beta, "gamma": gamma}
        coefficients = Coefficients(**{name: 1.0 if f is None else f for name, f in named.items()})
    else:
        coefficients = Coefficients()
    before = cost(base)
    wanted = before.macs * factor if factor is not None else units.count("--macs", macs)
    scaled = to_macs(base, wanted, coefficients)
    after = cost(scaled.config)
    value = {
        "model": model,
        "macs_wanted": round(wanted),
        "coefficients": to_dict(coefficients),
        "phi": scaled.phi,
        "base": {"params": before.params, "macs": before.macs, "resolution": base.resolution},
        "scaled": {"params": after.params, "macs": after.macs, "resolution": scaled.config.resolution},
        "architecture": to_dict(scaled.config),
        "grid": found and grid_json(found),
    }

    def lines() -> list[str]:
        c = coefficients
        return [
            *(grid_lines(found) if found else []),
            f"model     {model} at {base.resolution} x {base.resolution}: {line(before)}",
            f"scaled    at {scaled.config.resolution} x {scaled.config.resolution}: {line(after)}"
            f" ({after.macs / before.macs:.3f}x, {percent(after.macs / wanted)} % of what was asked)",
            f"factors   alpha {c.alpha:.4g}, beta {c.beta:.4g}, gamma {c.gamma:.4g}"
            f" (alpha beta^2 gamma^2 = {c.macs:.3f}) at phi {scaled.phi:.3f}",
            f"layers    {spread(base, depth)} -> {spread(scaled.config, depth)}",
            f"widths    {spread(base, width)} -> {spread(scaled.config, width)}",
        ]

    output.answer(value, lines)


def ratio(text: str) -> float | None:
    """ "2x" -> 2.0; None for a text without the x."""
    if not text.strip().lower().endswith("x"):
        units.count("--macs", text)
        return None
    try:
        factor = float(text.strip()[:-1])
    except ValueError:
        factor = 0.0
    if not 0.01 <= factor <= 1000:
        raise ConfigError(f'--macs "{text}": expected 2x, from 0.01x to 1000x, or a number such as 600M')
    return factor


def line(counted: Any) -> str:
    """Parameters and exact multiply-adds."""
    return f"{counted.macs:,} multiply-adds · {count(counted.params)} parameters"


def depth(stage: Any) -> int:
    """Layers of a stage of any family."""
    return int(stage.depth) if hasattr(stage, "depth") else len(stage.mid if hasattr(stage, "mid") else stage.blocks)


def width(stage: Any) -> int:
    """Output channels of a stage of any family."""
    if hasattr(stage, "width"):
        return int(stage.width)
    return int(next(block.width for block in reversed(stage.blocks) if hasattr(block, "width")))


def spread(config: Any, what: Any) -> str:
    """A number of every stage."""
    return " ".join(str(what(stage)) for stage in config.stages)


def grid_lines(found: "Found") -> list[str]:
    """The grid as a table."""
    out = [
        f"data      {found.data} · {len(found.rows)} candidates, {duration(found.train_s)} of training each,"
        f" recipe {found.recipe}, seed {found.seed}"
    ]
    out.append(f"{'':<9} {'alpha':>6} {'beta':>6} {'gamma':>6} {'px':>4} {'MACs':>7}  validation accuracy")
    for row in found.rows:
        c, config = row.coefficients, row.scaled.config
        what = row.error or share(row.score or 0.0, found.interval(row), found.n)
        cells = f"{c.alpha:6.3f} {c.beta:6.3f} {c.gamma:6.3f} {config.resolution:4}"
        out.append(f"{'':<9} {cells} {count(row.scaled.macs):>7}  {what}")
    if found.left_out:
        reason = "whole layers and channels can not come near twice the base"
        out.append(f"{'':<9} left out: {found.left_out}; {reason}")
    if found.tied > 1:
        reason = "more time or pictures are needed to tell them apart"
        out.append(f"{'':<9} the first {found.tied} lie within the best one's interval: {reason}")
    return out


def grid_json(found: "Found") -> dict[str, Any]:
    """The grid for --json."""
    from foveate.config import to_dict

    rows = [
        {
            **to_dict(row.coefficients),
            "resolution": row.scaled.config.resolution,
            "macs": row.scaled.macs,
            "val_accuracy": row.score,
            "val_interval": None if row.score is None else list(found.interval(row)),
            "error": row.error,
        }
        for row in found.rows
    ]
    about = {"data": found.data, "n": found.n, "train_s": found.train_s, "recipe": found.recipe, "seed": found.seed}
    return {**about, "left_out": found.left_out, "tied": found.tied, "rows": rows}
