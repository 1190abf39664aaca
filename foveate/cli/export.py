"""foveate export: a model as a file with the preprocessing inside, refused unless it agrees with the model."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options.data import FollowLinks, MaxDrop, Model, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Threads
from foveate.cli.runtimes import table, told
from foveate.report.units import percent, points, size

EXAMPLE = "Example: foveate export runs/photos-1/best --to best --data photos"


class To(enum.StrEnum):
    """Forms of a file."""

    onnx = "onnx"
    onnx_int8 = "onnx_int8"
    openvino = "openvino"
    openvino_bf16 = "openvino_bf16"
    openvino_int8 = "openvino_int8"
    best = "best"


@command_of
def command(
    model: Model,
    *,
    to: Annotated[To, typer.Option("--to", help="Form of the file; best measures them here and keeps one.")] = To.onnx,
    out: Annotated[Path | None, option("--out", metavar="FILE", help="By default MODEL/model.onnx or .xml.")] = None,
    data: Annotated[str | None, option("--data", metavar="DATA", help="Labelled pictures: int8, accuracy.")] = None,
    pictures: Annotated[
        str | None, option("--pictures", metavar="DIR", help="Real pictures to compare on; generated ones without it.")
    ] = None,
    follow_links: FollowLinks = False,
    resolution: Annotated[
        int | None, option("--resolution", low=8, high=4096, help="Pixels, square; else the model's own.")
    ] = None,
    max_drop: MaxDrop = 1.0,
    threads: Threads = None,
    output: Output,
) -> None:
    """Write one ONNX file, or OpenVINO's .xml and .bin.

    uint8 pictures of any size in; probabilities, logits and how strange a picture is out.
    Nothing is written when the file does not answer as the model does.
    """
    folder = model_folder(model)
    from foveate.deploy.write import export

    made = export(
        folder,
        to=to.value,
        out=out,
        data=data,
        pictures=pictures,
        follow_links=follow_links,
        resolution=resolution,
        max_drop=max_drop,
        threads=threads,
        tell=warn,
        told=told,
    )

    def lines() -> Iterator[str]:
        if made.comparison is not None:
            yield from (*table(made.comparison, whole=True), "")
        yield f"file      {' and '.join(map(str, made.files))} · {size(made.size_bytes)}"
        on = f"{percent(made.top1_agreement)} % of {made.n} {made.pictures} pictures"
        yield f"agrees    {on}, logits within {made.max_abs_diff:.1g}"
        if made.accuracy is not None and made.drop is not None:
            yield f"accuracy  {percent(made.accuracy)} %, {points(made.drop)} points lost"
        if data is None and pictures is None:
            yield "next      --pictures DIR compares on real pictures; --data DATA also allows int8"

    output.answer(made.to_dict(), lines)
