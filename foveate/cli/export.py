"""foveate export: a model as a file with the preprocessing inside, refused unless it agrees with the model."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli.options.data import FollowLinks, MaxDrop, ModelOrNone, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, warn
from foveate.cli.options.run import Threads
from foveate.cli.runtimes import table, told
from foveate.deploy.formats import FORMS
from foveate.deploy.formats.form import Given
from foveate.errors import ConfigError
from foveate.report.units import percent, points, size

if TYPE_CHECKING:
    from foveate.deploy.compare import Comparison, Sample
    from foveate.deploy.subject import Subject

EXAMPLE = "Example: foveate export runs/photos-1/best --to best --data photos"
PICTURES = 32  # on which a file of full precision must agree


# what --to takes, from the table of forms
To: Any = enum.StrEnum("To", {name: name for name in (*FORMS, "best")})


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
    """Write a model as a file that runs elsewhere: ONNX, OpenVINO, a page for browsers and more (--list).

    uint8 pictures of any size in; probabilities, logits and how strange a picture is out.
    Nothing is written when the file does not answer as the model does.
    """
    if listed:
        forms = list_forms(Given(runtime=runtime, fetch=fetch))
        output.answer({"forms": forms}, lambda: form_lines(forms))
        return
    if model is None:
        raise ConfigError("missing argument MODEL: expected a model folder such as runs/photos-1/best")
    folder = model_folder(model)
    check_options(to.value, out, calibrated=data is not None or pictures is not None)
    given_form = Given(folder.absolute().parent.name if folder.name == "best" else folder.name, runtime, fetch)
    if to is not To.best and (reason := FORMS[to.value].missing(given_form)) is not None:
        raise ConfigError(f"--to {to.value}: {reason}")
    import torch

    from foveate.cli.sample import given
    from foveate.data.preprocess import at_resolution
    from foveate.deploy.effort import check_effort
    from foveate.deploy.formats.write import write_form
    from foveate.deploy.parity import check_agreement, check_parity, require_agreement, require_parity
    from foveate.deploy.subject import Subject
    from foveate.deploy.targets import check_inside
    from foveate.train.artefact import load_model
    from foveate.train.trusted import PLAIN

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
    form = FORMS[name]
    files = form.make(subject, given_form)
    agreement: dict[str, Any] = {"pictures": sample.name if data else "generated" if pictures is None else "real"}
    if form.open is None:
        agreement = {"not_run": form.unrun}
    elif form.precision == "fp32":
        # of a folder all can be compared on, for nothing is calibrated here
        real = sample.pictures if data is not None else [*calibration, *sample.pictures]
        session = form.open(files, subject.threads)
        parity = check_parity(net, preprocess, session, real[:: max(1, len(real) // PICTURES)][:PICTURES])
        require_parity(parity)
        agreement |= {"n": parity.n, "top1_agreement": parity.top1_agreement, "max_abs_diff": parity.max_abs_diff}
    else:
        session = form.open(files, subject.threads)
        agreed = check_agreement(net, preprocess, session, sample.pictures, sample.labels)
        require_agreement(agreed, max_drop / 100)
        agreement |= vars(agreed)
    check_inside(files, sample.pictures)
    paths = write_form(form, files, out or folder / "model.onnx")
    size_bytes = sum(map(len, files.values()))
    found = {"file": str(paths[-1]), "files": [str(p) for p in paths], "to": name, "size_bytes": size_bytes}

    def lines() -> Iterator[str]:
        if compared is not None:
            yield from (*table(compared, whole=True), "")
        shown = paths[-1:] if form.folder else paths
        yield f"file      {' and '.join(map(str, shown))} · {size(size_bytes)}"
        if "not_run" in agreement:
            yield f"not run   {agreement['not_run']}"
            return
        on = f"{percent(agreement['top1_agreement'])} % of {agreement['n']} {agreement['pictures']} pictures"
        yield f"agrees    {on}, logits within {agreement['max_abs_diff']:.1g}"
        if agreement.get("drop") is not None:
            yield f"accuracy  {percent(agreement['accuracy'])} %, {points(agreement['drop'])} points lost"
        if form.next:
            yield f"next      {form.next.format(file=paths[-1])}"
        elif data is None and pictures is None:
            yield "next      --pictures DIR compares on real pictures; --data DATA also allows int8"

    output.answer({**found, "parity": agreement, **(compared.as_dict() if compared else {})}, lines)


def check_options(to: str, out: Path | None, *, calibrated: bool) -> None:
    """ConfigError where --out can not name this form, or int8 has no pictures."""
    suffixes = (".onnx", ".xml") if to == "best" else ("" if FORMS[to].folder else FORMS[to].suffix,)
    wrong = out is not None and (out.suffix.lower() not in suffixes if suffixes[0] else out.is_file())
    if out is not None and (wrong or not out.parent.is_dir()):
        what = f"a file name that ends with {' or '.join(suffixes)}" if suffixes[0] else "the name of a folder"
        raise ConfigError(f"--out {out}: expected {what} in a folder that exists")
    if to.endswith("_int8") and not calibrated:
        raise ConfigError(f"--to {to}: int8 is calibrated on real pictures; give --data DATA or --pictures DIR")


def list_forms(given: Given) -> list[dict[str, Any]]:
    """A row a form: its name, what it is for, its ending, why it can not be made here, why it can not be run here."""
    return [
        {
            "to": name,
            "about": form.about,
            "suffix": form.suffix,
            "precision": form.precision,
            "missing": form.missing(given),
            "not_run": form.unrun or None,
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
