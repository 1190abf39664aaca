"""foveate eval: how good a model is on a split, with its interval."""

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options.data import Data, FollowLinks, Model, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Bad, BadFiles
from foveate.errors import ConfigError
from foveate.report.units import share

EXAMPLE = "Example: foveate eval runs/photos-1/best photos --split test"
SHOWN_CLASSES = 20


class Views(enum.StrEnum):
    """Views of a picture whose predictions are averaged."""

    one = "one"
    mirror = "mirror"
    shifts = "shifts"


@command_of
def command(
    model: Model,
    data: Data,
    *,
    split: Annotated[
        str | None,
        option("--split", metavar="NAME", help="train, val, test or all; else test where DATA has it, or all."),
    ] = None,
    views: Annotated[
        Views, typer.Option("--views", help="Average over the mirror image too, or over six views.")
    ] = Views.one,
    crops: Annotated[
        int, option("--crops", low=1, high=10, help="10: corners and middle of the resized picture, mirrored too.")
    ] = 1,
    resolution: Annotated[
        int | None, option("--resolution", low=8, high=4096, help="Pixels, square; else the model's own.")
    ] = None,
    bad_files: Bad = BadFiles.stop,
    follow_links: FollowLinks = False,
    output: Output,
) -> None:
    """Measure accuracy on labelled pictures, of a model or of an exported file.

    The pictures of a split, or all of a folder or table without splits; every class, each with its 95 % interval.
    """
    how: dict[str, Any] = {"split": split, "bad_files": bad_files.value, "follow_links": follow_links}
    if model.lower().endswith((".onnx", ".xml")) and not Path(model).is_dir():
        if views is not Views.one or crops != 1:
            raise ConfigError(f"{model}: an exported file sees a picture once; leave out --views and --crops")
        from foveate.runs.judged import evaluate_file

        found = evaluate_file(model, data, resolution=resolution, **how)
        output.answer(found, lambda: lines(found))
        return
    folder = model_folder(model)
    from foveate.runs.evaluate import evaluate_model

    result = evaluate_model(
        folder,
        data,
        **how,
        views=views.value,
        crops=crops,
        resolution=resolution,
        tell=warn,
    )
    if result:  # one of several processes: the first one speaks
        output.answer(result, lambda: lines(result))


def lines(result: Mapping[str, Any]) -> list[str]:
    """What was judged, the accuracy, then the classes from worst to best (the worst ones where there are many)."""
    from foveate.data.gate.walk import some

    out = [result["judged"], *result["notes"]]
    if missing := result["classes_missing"]:
        out.append(f"no picture of {some(missing)}: the accuracy says nothing of {'them' if missing[1:] else 'it'}")
    out += [f"{result['split']:<9} {share(result['accuracy'], result['interval'], result['n'])}"]
    out += [calibration_line(result)] if "ece_before" in result else []
    rows = [(str(r["class"]), r) for r in result.get("per_class", [])]
    rows = sorted((row for row in rows if row[1]["n"]), key=lambda row: row[1]["accuracy"])
    wide = max((len(label) for label, _ in rows), default=0)
    out += [f"  {label:<{wide}}  {share(r['accuracy'], r['interval'], r['n'])}" for label, r in rows[:SHOWN_CLASSES]]
    if len(rows) > SHOWN_CLASSES:
        out.append(f"  the {SHOWN_CLASSES} worst of {len(rows):,} classes; --json has all")
    return out


def calibration_line(result: Mapping[str, Any]) -> str:
    """ "calibration error 0.044 (0.122 unscaled; perfect answers would show 0.041, up to 0.057), Brier score 0.245"."""
    mean, most = result["ece_null"]
    text = f"calibration error {result['ece']:.3f} ({result['ece_before']:.3f} unscaled; perfect answers would show"
    return f"{text} {mean:.3f}, up to {most:.3f}), Brier score {result['brier']:.3f}"
