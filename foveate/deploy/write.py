"""A model folder as a file of one form: made, compared with the model, and only then written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from foveate.data.preprocess import at_resolution
from foveate.deploy.classifier import find_folder
from foveate.deploy.compare import Comparison, Sample, choose, compare, lost
from foveate.deploy.effort import check_effort, warn
from foveate.deploy.formats import FORMS
from foveate.deploy.formats.form import Given
from foveate.deploy.formats.write import write_form
from foveate.deploy.parity import check_agreement, check_parity, require_agreement, require_parity
from foveate.deploy.sample import given
from foveate.deploy.subject import Subject
from foveate.deploy.targets import TARGETS, check_inside, target_of
from foveate.errors import ConfigError
from foveate.train.artefact import load_model
from foveate.train.trusted import PLAIN

PICTURES = 32  # on which a file of full precision must agree
Form: TypeAlias = Literal["onnx", "onnx_int8", "openvino", "openvino_bf16", "openvino_int8", "html", "web", "best"]


@dataclass(frozen=True)
class Written:
    """A file that answers as its model does, and how that was seen."""

    file: Path  # the one to open
    files: tuple[Path, ...]  # all of them: OpenVINO has two
    to: str  # its form; what was best where that was asked for
    size_bytes: int  # of all files
    pictures: str  # on which it was compared: "generated", "real", or which data
    n: int  # how many
    top1_agreement: float  # share of them with the model's class, 0 to 1
    max_abs_diff: float  # of logits
    agreement: dict[str, Any]  # the same as --json has it under "parity", with what int8 adds
    accuracy: float | None = None  # 0 to 1, of the file; only with labelled pictures
    drop: float | None = None  # of the accuracy, 0 to 1
    comparison: Comparison | None = None  # of all forms, where the best was asked for

    def to_dict(self) -> dict[str, Any]:
        """What `foveate export --json` prints."""
        found = {"file": str(self.file), "files": [str(p) for p in self.files], "to": self.to}
        measured = self.comparison.as_dict() if self.comparison else {}
        return {**found, "size_bytes": self.size_bytes, "parity": self.agreement, **measured}


def export(
    model: str | Path,
    *,
    to: Form = "onnx",
    out: str | Path | None = None,
    data: str | None = None,
    pictures: str | None = None,
    follow_links: bool = False,
    resolution: int | None = None,
    max_drop: float = 1.0,
    runtime: str | Path | None = None,
    fetch: bool = False,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
    told: Callable[[str], None] = lambda text: None,
) -> Written:
    """Write a model folder as one ONNX file, as OpenVINO's .xml and .bin, or as a page for browsers, with the
    preprocessing inside.

    model: a model folder, or a run folder (then its best/). to: the form; "best" measures all that can be had here, on
    this machine, and keeps one. out: ends with the suffix of the form, in a folder that exists; None: MODEL/model.onnx
    or .xml. data: labelled DATA, which int8 is calibrated and judged on. pictures: a folder without labels; without
    both, generated pictures are compared on. resolution: pixels in place of the model's own. max_drop: points of
    accuracy that int8 may lose. runtime: of html and web, the folder of onnxruntime-web; None: looked for. fetch:
    whether it may be taken from the npm registry. threads: of the measurement; None: all. tell, told: hear warnings
    and progress.
    Nothing is written when the file does not answer as the model does. Raises ConfigError, DataError, FoveateError,
    WeightsError.

        fv.export("runs/photos-1", to="openvino").file   # Path("runs/photos-1/best/model.xml")
    """
    folder, place = find_folder(model), None if out is None else Path(out)
    if to != "best" and to not in FORMS:
        raise ConfigError(f'to = "{to}": expected {", ".join([*FORMS, "best"])}')
    check_place(to, place)
    title = folder.absolute().parent.name if folder.name == "best" else folder.name
    beside = Given(title, None if runtime is None else Path(runtime), fetch)
    if to.endswith("int8") and data is None and pictures is None:
        raise ConfigError(f"--to {to}: int8 is calibrated on real pictures; give --data DATA or --pictures DIR")
    if to != "best" and (reason := FORMS[to].missing(beside)) is not None:
        raise ConfigError(f"--to {to}: {reason}")
    net, card = load_model(folder)
    preprocess = card.preprocess if resolution is None else at_resolution(card.preprocess, resolution)
    check_effort(net, card.architecture, preprocess, str(folder), named=resolution is not None, tell=tell)
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
        told=told if to != "onnx" else (lambda text: None),
    )
    compared = measured(subject, sample, max_drop / 100) if to == "best" else None
    name = chosen(compared) if compared is not None else to
    form = FORMS[name]
    files = form.make(subject, beside)
    session = form.open(files, subject.threads)
    agreement: dict[str, Any] = {"pictures": sample.name if data else "generated" if pictures is None else "real"}
    if form.precision == "fp32":
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
    paths = write_form(form, files, place or folder / "model.onnx")
    return Written(
        file=paths[-1],
        files=tuple(paths),
        to=name,
        size_bytes=sum(map(len, files.values())),
        pictures=agreement["pictures"],
        n=agreement["n"],
        top1_agreement=agreement["top1_agreement"],
        max_abs_diff=agreement["max_abs_diff"],
        agreement=agreement,
        accuracy=agreement.get("accuracy"),
        drop=agreement.get("drop"),
        comparison=compared,
    )


def check_place(to: str, place: Path | None) -> None:
    """ConfigError where a place can not be that of a form."""
    if place is None:
        return
    suffixes = (".onnx", ".xml") if to == "best" else ("",) if FORMS[to].folder else (FORMS[to].suffix,)
    wrong = place.suffix.lower() not in suffixes if suffixes[0] else place.is_file()
    if wrong or not place.parent.is_dir():
        what = f"a file name that ends with {' or '.join(suffixes)}" if suffixes[0] else "the name of a folder"
        raise ConfigError(f"--out {place}: expected {what} in a folder that exists")


def measured(subject: Subject, sample: Sample, max_drop: float) -> Comparison:
    """All forms that a file can have, on this machine; int8 only with pictures to calibrate it on."""
    wanted = [(t.engine, t.precision) for t in TARGETS.values() if t.precision != "int8" or subject.calibration]
    return compare(subject, sample, [("torch", "fp32"), *wanted], max_drop=max_drop)


def chosen(compared: Comparison) -> str:
    """The name of the best form; PyTorch itself has none, and is there for the ratio."""
    forms = [m for m in compared.measured if m.engine != "torch"]
    best = compared.best if compared.best in forms else choose(forms, max(0.0, min(map(lost, forms), default=0.0)))
    if best is None:
        raise ConfigError("no form of the model can be measured here; --to onnx writes it all the same")
    return target_of(best.engine, best.precision)
