"""foveate export: a model as a file with the preprocessing inside, refused unless it agrees with the model."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, MaxDrop, ModelOrNone, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Threads
from foveate.cli.runtimes import table, told
from foveate.errors import ConfigError
from foveate.report.units import percent, points, size

EXAMPLE = "Example: foveate export runs/photos-1/best --to best --data photos"


class To(enum.StrEnum):
    """Forms of a file: those of deploy.formats.FORMS, which a test compares, and the best of them here."""

    onnx = "onnx"
    onnx_int8 = "onnx_int8"
    openvino = "openvino"
    openvino_bf16 = "openvino_bf16"
    openvino_int8 = "openvino_int8"
    html = "html"
    web = "web"
    best = "best"


@command_of
def command(
    model: ModelOrNone = None,
    *,
    to: Annotated[To, typer.Option("--to", help="Form of the file; best measures them here and keeps one.")] = To.onnx,
    listed: Annotated[bool, typer.Option("--list", help="Show the forms, and which can be made here.")] = False,
    out: Annotated[Path | None, option("--out", metavar="FILE", help="By default MODEL/model. and its ending.")] = None,
    data: Annotated[str | None, option("--data", metavar="DATA", help="Labelled pictures: int8, accuracy.")] = None,
    pictures: Annotated[
        str | None, option("--pictures", metavar="DIR", help="Real pictures to compare on; generated ones without it.")
    ] = None,
    follow_links: FollowLinks = False,
    resolution: Annotated[
        int | None, option("--resolution", low=8, high=4096, help="Pixels, square; else the model's own.")
    ] = None,
    max_drop: MaxDrop = 1.0,
    runtime: Annotated[
        Path | None, option("--runtime", metavar="DIR", help="html, web: folder of onnxruntime-web; else looked for.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="html, web: take onnxruntime-web from npm where it is not here.")
    ] = False,
    threads: Threads = None,
    output: Output,
) -> None:
    """Write a model as a file that runs elsewhere: ONNX, OpenVINO, a page for browsers (--list).

    uint8 pictures of any size in; probabilities, logits and how strange a picture is out.
    Nothing is written when the file does not answer as the model does.
    """
    if listed:
        forms = list_forms(runtime, fetch)
        output.answer({"forms": forms}, lambda: form_lines(forms))
        return
    if model is None:
        raise ConfigError("missing argument MODEL: expected a model folder such as runs/photos-1/best")
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
        runtime=runtime,
        fetch=fetch,
        threads=threads,
        tell=warn,
        told=told,
    )

    def lines() -> Iterator[str]:
        from foveate.deploy.formats import FORMS

        if made.comparison is not None:
            yield from (*table(made.comparison, whole=True), "")
        form = FORMS[made.to]
        shown = made.files[-1:] if form.folder else made.files
        yield f"file      {' and '.join(map(str, shown))} · {size(made.size_bytes)}"
        on = f"{percent(made.top1_agreement)} % of {made.n} {made.pictures} pictures"
        yield f"agrees    {on}, logits within {made.max_abs_diff:.1g}"
        if made.accuracy is not None and made.drop is not None:
            yield f"accuracy  {percent(made.accuracy)} %, {points(made.drop)} points lost"
        if form.next:
            yield f"next      {form.next.format(file=made.file)}"
        elif data is None and pictures is None:
            yield "next      --pictures DIR compares on real pictures; --data DATA also allows int8"

    output.answer(made.to_dict(), lines)


def list_forms(runtime: Path | None, fetch: bool) -> list[dict[str, Any]]:
    """A row a form: its name, what it is for, its ending, why it can not be made here."""
    from foveate.deploy.formats import FORMS
    from foveate.deploy.formats.form import Given

    given = Given(runtime=runtime, fetch=fetch)
    return [
        {
            "to": name,
            "about": form.about,
            "suffix": form.suffix,
            "precision": form.precision,
            "missing": form.missing(given),
        }
        for name, form in FORMS.items()
    ]


def form_lines(forms: list[dict[str, Any]]) -> Iterator[str]:
    """The same as a table, then what the others need."""
    wide = max(len(row["to"]) for row in forms)
    for row in forms:
        ready = "no " if row["missing"] else "yes"
        yield f"{row['to']:<{wide}}  {ready}  {row['suffix']:<10}  {row['about']}"
    for row in forms:
        if row["missing"]:
            yield f"{row['to']}: {row['missing']}"
