"""foveate export: a model as a file with the preprocessing inside, refused unless it agrees with the model."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, MaxDrop, Model, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Threads
from foveate.cli.runtimes import table, told
from foveate.errors import ConfigError
from foveate.report.units import percent, points, size

if TYPE_CHECKING:
    from foveate.deploy.compare import Comparison, Sample
    from foveate.deploy.subject import Subject

EXAMPLE = "Example: foveate export runs/photos-1/best --to best --data photos"
PICTURES = 32  # on which a file of full precision must agree


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
    suffixes = {To.best: (".onnx", ".xml"), To.onnx: (".onnx",), To.onnx_int8: (".onnx",)}.get(to, (".xml",))
    if out is not None and (out.suffix.lower() not in suffixes or not out.parent.is_dir()):
        raise ConfigError(
            f"--out {out}: expected a file name that ends with {' or '.join(suffixes)} in a folder that exists"
        )
    if to in (To.onnx_int8, To.openvino_int8) and data is None and pictures is None:
        raise ConfigError(f"--to {to.value}: int8 is calibrated on real pictures; give --data DATA or --pictures DIR")
    import torch

    from foveate.cli.sample import given
    from foveate.data.preprocess import at_resolution
    from foveate.deploy.effort import check_effort
    from foveate.deploy.parity import check_agreement, check_parity, require_agreement, require_parity
    from foveate.deploy.subject import Subject
    from foveate.deploy.targets import TARGETS, check_inside, write
    from foveate.train.artefact import load_model
    from foveate.train.trusted import PLAIN

    if to is not To.best and (reason := TARGETS[to.value].missing()) is not None:
        raise ConfigError(f"--to {to.value}: {reason}")
    net, card = load_model(folder)
    preprocess = card.preprocess if resolution is None else at_resolution(card.preprocess, resolution)
    check_effort(net, card.architecture, preprocess, str(folder), named=resolution is not None, tell=warn)
    calibration, sample = given(data, pictures, card.classes, follow_links)
    subject = Subject(
        net,
        preprocess,
        card.classes,
        threads or torch.get_num_threads(),
        calibration=calibration,
        min_agreement=1 - max_drop / 100,
        trust=card.trust or PLAIN,
        known=card.known,
        told=told if to is not To.onnx else (lambda text: None),
    )
    compared = measured(subject, sample, max_drop / 100) if to is To.best else None
    name = chosen(compared) if compared is not None else to.value
    target = TARGETS[name]
    files = target.make(subject)
    session = target.open(files, subject.threads)
    agreement: dict[str, Any] = {"pictures": sample.name if data else "generated" if pictures is None else "real"}
    if target.precision == "fp32":
        # of a folder all can be compared on, for nothing is calibrated here
        real = sample.pictures if data is not None else [*calibration, *sample.pictures]
        parity = check_parity(net, preprocess, session, real[:: max(1, len(real) // PICTURES)][:PICTURES])
        require_parity(parity)
        agreement |= {"n": parity.n, "top1_agreement": parity.top1_agreement, "max_abs_diff": parity.max_abs_diff}
    else:
        agreed = check_agreement(net, preprocess, session, sample.pictures, sample.labels)
        require_agreement(agreed, max_drop / 100)
        agreement |= vars(agreed)
    check_inside(files, sample.pictures)
    paths = write(files, (out or folder / "model.onnx").with_suffix(target.suffix))
    size_bytes = sum(map(len, files.values()))
    found = {"file": str(paths[-1]), "files": [str(p) for p in paths], "to": name, "size_bytes": size_bytes}

    def lines() -> Iterator[str]:
        if compared is not None:
            yield from (*table(compared, whole=True), "")
        yield f"file      {' and '.join(map(str, paths))} · {size(size_bytes)}"
        on = f"{percent(agreement['top1_agreement'])} % of {agreement['n']} {agreement['pictures']} pictures"
        yield f"agrees    {on}, logits within {agreement['max_abs_diff']:.1g}"
        if agreement.get("drop") is not None:
            yield f"accuracy  {percent(agreement['accuracy'])} %, {points(agreement['drop'])} points lost"
        if data is None and pictures is None:
            yield "next      --pictures DIR compares on real pictures; --data DATA also allows int8"

    output.answer({**found, "parity": agreement, **(compared.as_dict() if compared else {})}, lines)


def measured(subject: "Subject", sample: "Sample", max_drop: float) -> "Comparison":
    """All forms that a file can have, on this machine; int8 only with pictures to calibrate it on."""
    from foveate.deploy.compare import compare
    from foveate.deploy.targets import TARGETS

    wanted = [(t.engine, t.precision) for t in TARGETS.values() if t.precision != "int8" or subject.calibration]
    return compare(subject, sample, [("torch", "fp32"), *wanted], max_drop=max_drop)


def chosen(compared: "Comparison") -> str:
    """The name of the best form; PyTorch itself has none, and is there for the ratio."""
    from foveate.deploy.compare import choose, lost
    from foveate.deploy.targets import target_of

    forms = [m for m in compared.measured if m.engine != "torch"]
    best = compared.best if compared.best in forms else choose(forms, max(0.0, min(map(lost, forms), default=0.0)))
    if best is None:
        raise ConfigError("no form of the model can be measured here; --to onnx writes it all the same")
    return target_of(best.engine, best.precision)
