"""Model folders: config.json + model.safetensors + README.md hold all that prediction needs, and nothing that runs."""

import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import MAX_JSON_BYTES, from_dict, parse_json, record, to_dict, to_json
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError
from foveate.train.front_matter import front_matter
from foveate.train.trusted import MAX_BYTES, Known, Trust, check_trust, digest, known_bytes, known_from
from foveate.zoo import build, config_from
from foveate.zoo.tensors import open_regular, read_small, read_tensors, tensor_bytes
from foveate.zoo.weights import copy_into, fitting

FORMAT, VERSION = "foveate-model", 1
KNOWN_FILE = "trust.safetensors"  # beside the weights, where the features of training pictures are known
CARD_CLASSES = 200  # class names that the README lists

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1024)]
Fact = str | int | Finite | None


@record
class Metric:
    """One measured number with its origin. The name ends in the unit of value, low and high; a rate is from 0 to 1."""

    name: Text  # "accuracy", "latency_ms"
    value: Finite
    low: Finite | None = None  # of the 95 % interval
    high: Finite | None = None
    n: Annotated[int, Field(ge=0)] = 0  # pictures or repeats behind it
    split: Text = ""  # of the data: "val", "test"
    data: Text = ""  # its name
    seed: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """What a model folder says beside its weights."""

    architecture: Any  # a config of the zoo
    classes: tuple[str, ...]  # in the order of the logits
    preprocess: Preprocess
    provenance: Mapping[str, Fact]  # run, data, seed, versions
    metrics: tuple[Metric, ...] = ()
    trust: Trust | None = None  # how far its answers hold; None: not fitted
    known: Known | None = field(default=None, compare=False)  # the features that trust speaks of


@record
class _File:
    """config.json as it stands in a model folder."""

    format: Literal["foveate-model"]
    version: Annotated[int, Field(ge=1, le=VERSION)]  # an int: Literal[1] would take true
    architecture: dict[str, Any]
    classes: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(min_length=1)]
    preprocess: Preprocess
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    provenance: dict[str, Fact]
    metrics: tuple[Metric, ...] = ()
    trust: Trust | None = None


def model_files(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """The files of a model folder, for foveate.files.write_folder. Equal input gives equal bytes.

    Names that are not UTF-8 are kept escaped ("caf\\udce9"). Raises ConfigError where the card can not be read back.
    """
    classes = tuple(map(utf8, card.classes))
    _check_classes(classes, card.architecture, "model card")
    weights = tensor_bytes(state_dict, {"format": "pt"})
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": to_dict(card.architecture),
        "classes": classes,
        "preprocess": card.preprocess,
        "provenance": {utf8(k): utf8(v) if isinstance(v, str) else v for k, v in card.provenance.items()},
        "metrics": card.metrics,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    parts: dict[str, bytes] = {}
    if card.trust is not None:
        check_trust(card.trust, len(classes), "model card")
        if card.known is not None:
            parts[KNOWN_FILE] = known_bytes(card.known)
        sha256 = digest(parts[KNOWN_FILE]) if parts else None
        facts["trust"] = replace(card.trust, features_sha256=sha256)
    try:
        config = to_json(facts).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model card: {error}; provenance holds texts and finite numbers") from None
    if len(config) > MAX_JSON_BYTES:
        raise ConfigError(
            f"model card: {len(config):,} bytes of config.json; at most {MAX_JSON_BYTES:,} can be read back"
        )
    from_dict(_File, parse_json(config, "model card"), "model card")  # what is written can be read
    return {
        "config.json": config,
        "model.safetensors": weights,
        "README.md": readme(card, classes).encode("utf-8", "replace"),
        **parts,
    }


def read_card(folder: str | Path) -> tuple[ModelCard, str]:
    """(card, SHA-256 of the weights) from a model folder's config.json. Raises ConfigError or WeightsError."""
    path = Path(folder) / "config.json"
    data = parse_json(read_small(path), str(path))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f'{path}: not a model folder of foveate: expected "format": "{FORMAT}"')
    if type(data.get("version")) is int and data["version"] > VERSION:
        raise ConfigError(
            f"{path}: written as version {data['version']}, this foveate reads {VERSION}; upgrade foveate"
        )
    file: _File = from_dict(_File, data, str(path))
    architecture = config_from(file.architecture, f"{path}: architecture")
    _check_classes(file.classes, architecture, str(path))
    if file.trust is not None:
        check_trust(file.trust, len(file.classes), str(path))
    card = ModelCard(architecture, file.classes, file.preprocess, file.provenance, file.metrics, file.trust)
    return card, file.weights_sha256


def load_model(folder: str | Path, *, allow_nan: bool = False) -> tuple[nn.Module, ModelCard]:
    """(the model in evaluation mode on the CPU, its card) of a model folder.

    Checked before memory is taken: the card, the SHA-256 of the weights, and every shape against the architecture.
    Weights with NaN or infinity are refused unless allow_nan. Raises ConfigError or WeightsError.
    """
    folder = Path(folder)
    card, sha256 = read_card(folder)
    path = folder / "model.safetensors"
    tensors = read_tensors(path, sha256=sha256)
    try:
        with torch.device("meta"):
            shapes = build(card.architecture)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:  # a layer that can not take its options
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(f"{folder / 'config.json'}: architecture: {reason}") from None
    chosen = fitting(shapes, tensors, allow_nan=allow_nan, what=str(path))
    model = build(card.architecture)
    copy_into(model, chosen)
    if card.trust is not None and card.trust.features_sha256 is not None:
        card = replace(card, known=_read_known(folder / KNOWN_FILE, card.trust.features_sha256))
    return model.eval(), card


def _read_known(path: Path, sha256: str) -> Known:
    """The known features of a model folder. WeightsError where the file is not the one that config.json names."""
    open_regular(path, MAX_BYTES).close()
    tensors = read_tensors(path, sha256=sha256)
    plain = {name: t.numpy() for name, t in tensors.items() if t.dtype in (torch.float32, torch.float16)}
    return known_from(plain, str(path))


def _check_classes(classes: tuple[str, ...], architecture: Any, what: str) -> None:
    if len(classes) != architecture.num_classes:
        raise ConfigError(
            f"{what}: {len(classes):,} classes, but the architecture has {architecture.num_classes:,} outputs"
        )
    if len(set(classes)) != len(classes):
        twin = next(name for i, name in enumerate(classes) if name in classes[:i])
        raise ConfigError(f'{what}: class "{twin}" stands twice')


def readme(card: ModelCard, classes: tuple[str, ...]) -> str:
    """A short model card in Markdown: what hubs read, what it is, classes, data, measurements, use."""
    facts = card.provenance
    name = facts.get("model") or card.architecture.family
    size = card.preprocess.resolution
    lines = front_matter(str(name), card.architecture.family, facts, card.metrics)
    lines += [f"# {escape(name)}", ""]
    lines += [
        f"An image classifier with {len(classes):,} classes, made with foveate. Input: {size} x {size} pixels, RGB.",
        "",
    ]
    if card.metrics:
        lines += ["## Measured", "", *(f"- {_metric_text(m)}" for m in card.metrics), ""]
    if facts:
        lines += ["## Origin", "", *(f"- {escape(k)}: {escape(v)}" for k, v in facts.items() if v is not None), ""]
    lines += ["## Use", "", "    foveate predict FOLDER picture.jpg", ""]
    lines += ["or in Python", "", "    import foveate", '    foveate.load("FOLDER").predict("picture.jpg")', ""]
    lines += ["## Classes", "", *(f"- {escape(c)}" for c in classes[:CARD_CLASSES])]
    if len(classes) > CARD_CLASSES:
        lines += [f"- and {len(classes) - CARD_CLASSES:,} more, in config.json"]
    return "\n".join(lines) + "\n"


def _metric_text(metric: Metric) -> str:
    """One line: "accuracy 0.912 (95 % interval 0.89 to 0.931), n = 500, test of digits, seed 0"."""
    text = f"{escape(metric.name)} {metric.value:.4g}"
    if metric.low is not None and metric.high is not None:
        text += f" (95 % interval {metric.low:.4g} to {metric.high:.4g})"
    text += f", n = {metric.n:,}" if metric.n else ""
    origin = " of ".join(escape(part) for part in (metric.split, metric.data) if part)
    return text + (f", {origin}" if origin else "") + (f", seed {metric.seed}" if metric.seed is not None else "")


def escape(value: object) -> str:
    """Text that Markdown and HTML show as it is, on one line, at most 200 characters."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).strip()[:200]
    text = re.sub(r"([\\`*\[\]#|~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", html.escape(text, quote=False))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", text)  # at the start these would begin a list


def utf8(text: str) -> str:
    """The text with what can not be UTF-8 (file names may hold it) written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
