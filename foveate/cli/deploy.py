"""foveate deploy check: whether an exported file does what its model does, on real pictures."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from foveate.cli.options.data import Data, FollowLinks, model_folder
from foveate.cli.options.declare import Command, command_of, option
from foveate.cli.options.output import Output
from foveate.report.units import share

app = typer.Typer(help="Check what runs on the device.", no_args_is_help=True)


@app.callback()
def deploy() -> None:
    """Check what runs on the device."""


@app.command("check", cls=Command, epilog="Example: foveate deploy check model.onnx photos --model runs/photos-1")
@command_of
def check_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Exported .onnx or .xml.", show_default=False)],
    data: Data,
    *,
    model: Annotated[
        str | None, option("--model", metavar="MODEL", help="The model it was made from; else the one beside it.")
    ] = None,
    split: Annotated[
        str | None,
        option("--split", metavar="NAME", help="train, val, test or all; else test where DATA has it, or all."),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=1, max=100_000, help="Compared, spread evenly.")] = 256,
    follow_links: FollowLinks = False,
    output: Output,
) -> None:
    """Compare an exported file with its model on real pictures, and name the likely fault.

    Exit code 1 where they do not agree. Found are colours in another order, another mean or std, another resize,
    weights that are cut off, classes in another order.
    """
    folder = None if model is None else model_folder(model)
    from foveate.runs.deployed import check_deployed

    found = check_deployed(file, data, model=folder, split=split, pictures=pictures, follow_links=follow_links)
    output.answer(found, lambda: lines(found))
    if found["fault"] is not None:
        raise typer.Exit(code=1)


def lines(found: Mapping[str, Any]) -> list[str]:
    """Accuracy, parity, and the verdict."""
    out = [f"judged {found['judged']}", f"accuracy  {share(found['accuracy'], found['interval'], found['n'])}"]
    if found["top1_agreement"] is None:
        out.append("no model to compare with; --model MODEL gives one")
    else:
        out.append(f"model     {100 * found['model_accuracy']:.1f} %")
        out.append(f"same class on {100 * found['top1_agreement']:.1f} % of the pictures")
    if found["max_abs_diff"] is not None:
        text = f"logits differ by at most {found['max_abs_diff']:.2g}, {found['median_abs_diff']:.2g} in the median"
        out.append(f"{text}; up to {found['tolerance']:.2g} is rounding")
    if found["fault"] is not None:
        return [*out, f"fault: {found['fault']}"]
    return [*out, "the file does what its model does"] if found["agrees"] else out
