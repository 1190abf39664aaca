"""foveate export: a model as one ONNX file with the preprocessing inside, refused unless it agrees with the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli import show
from foveate.cli.options import Debug, Json, Model, model_folder, print_json
from foveate.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

EXAMPLE = "Example: foveate export runs/photos-1/best --out photos.onnx --pictures photos/test"
PICTURES = 32  # on which both must agree


def command(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="By default MODEL/model.onnx.", show_default=False)
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Real pictures to compare on; generated ones without it.", show_default=False),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one ONNX file.

    uint8 pictures of any size in, logits out. Nothing is written when the file does not answer as the model does.
    """
    folder = model_folder(model)
    out = out or folder / "model.onnx"
    if out.suffix.lower() != ".onnx" or not out.parent.is_dir():
        raise ConfigError(f"--out {out}: expected a file name that ends with .onnx in a folder that exists")
    from foveate.config import to_json
    from foveate.deploy.export import export_onnx
    from foveate.deploy.parity import check_parity, require_parity
    from foveate.deploy.runtime import open_session
    from foveate.files import write_bytes
    from foveate.train.artefact import load_model

    sample = generated() if pictures is None else real(pictures)
    net, card = load_model(folder)
    onnx = export_onnx(net, card.preprocess, card.classes, metadata={"architecture": to_json(card.architecture)})
    parity = check_parity(net, card.preprocess, open_session(onnx, 1), sample)
    require_parity(parity)
    write_bytes(out, onnx)
    kind = "generated" if pictures is None else "real"
    if as_json:
        agreement = {"n": parity.n, "top1_agreement": parity.top1_agreement, "max_abs_diff": parity.max_abs_diff}
        print_json({"file": str(out), "size_bytes": len(onnx), "parity": agreement | {"pictures": kind}})
        return
    print(f"file      {out} · {show.size(len(onnx))}")
    agreed = f"{show.percent(parity.top1_agreement)} % of {parity.n} {kind} pictures"
    print(f"agrees    {agreed}, logits within {parity.max_abs_diff:.1g}")
    if pictures is None:
        print("next      --pictures DIR compares on real pictures")


def real(folder: str) -> list["np.ndarray"]:
    """Up to PICTURES pictures below a folder, spread evenly: uint8 (H, W, 3). DataError where none can be read."""
    from foveate.cli.predict import inside
    from foveate.data.decode import decode

    names = inside(folder)
    found = []
    for name in names[:: max(1, len(names) // PICTURES)]:
        try:
            found.append(decode(name))
        except DataError:
            continue
        if len(found) == PICTURES:
            break
    if not found:
        raise DataError(f"{folder}: no picture here can be read")
    return found


def generated() -> list["np.ndarray"]:
    """PICTURES smooth random pictures of many sizes and shapes: uint8 (H, W, 3), always the same."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for _ in range(PICTURES):
        coarse = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype=np.uint8)
        width, height = (int(side) for side in rng.integers(40, 500, 2))
        found.append(np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)))
    return found
