"""What foveate profile finds out of a model: counted once, then shown as text or JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.cli.options.data import model_folder
from foveate.config import replace, to_dict
from foveate.errors import BudgetError, FoveateError

if TYPE_CHECKING:
    from foveate.cost.count import Cost, LayerCost
    from foveate.cost.latency import Latency
    from foveate.cost.memory import Memory
    from foveate.cost.predict import Table
    from foveate.cost.receptive_field import Field
    from foveate.data.preprocess import Preprocess
    from foveate.deploy.compare import Comparison
    from foveate.zoo.family import Config

FLOAT32_BYTES = 4
OPTIMIZERS = {"sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam"}


@dataclass(frozen=True)
class Opened:
    """A name, folder or address: what is counted and measured of it. network: None where it needs no weights."""

    network: Any
    config: "Config"
    preprocess: "Preprocess"
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """The largest training batch that a memory holds; pictures: 0 where not one fits."""

    optimizer: str
    precision: str
    pictures: int


@dataclass(frozen=True)
class Measured:
    """The times: of the ONNX file in ONNX Runtime, and of all runtimes beside each other."""

    latency: "Latency"
    compared: "Comparison"
    whole: bool  # no runtime was left out


@dataclass(frozen=True)
class Profile:
    """What a model costs. None: not asked for, or not known (missing says why)."""

    model: str
    counted: "Cost"
    size_bytes: int  # of the ONNX file where it was measured, of the float32 weights elsewhere
    trained: "Memory | None" = None
    field: "Field | None" = None
    missing: tuple[str, ...] = ()
    predicted: Mapping[str, Any] | None = None
    memory_bytes: int | None = None
    batches: tuple[Batch, ...] = ()
    measured: Measured | None = None

    @property
    def kept(self) -> dict[str, int]:
        """Bytes that training keeps for the backward pass, by module."""
        return dict(self.trained.layers) if self.trained is not None else {}

    @property
    def layers(self) -> list[dict[str, object]]:
        """The table of layers, a row each."""
        from foveate.cost.table import rows

        return rows(self.counted, self.kept)

    def as_dict(self) -> dict[str, Any]:
        """What --json prints."""
        counted, trained = self.counted, None if self.trained is None else asdict(self.trained)
        if trained is not None:
            del trained["layers"]
        found: dict[str, Any] = {
            "model": self.model,
            "resolution": counted.resolution,
            "batch": counted.batch,
            "params": counted.params,
            "buffers": counted.buffers,
            "macs": counted.macs,
            "flops": counted.flops,
            "elementwise_flops": counted.elementwise_flops,
            "activations": counted.activations,
            "activation_bytes": None if self.trained is None else self.trained.activation_bytes,
            "train_bytes": None if self.trained is None else self.trained.peak_bytes,
            "train": trained,
            "inference_bytes": counted.inference_bytes,
            "receptive_field": None if self.field is None else asdict(self.field),
            "size_bytes": self.size_bytes,
            "not_counted": [*counted.not_counted, *self.missing],
            "parts": [{"part": part, "params": p, "macs": m} for part, p, m in parts(counted.layers)],
            "layers": self.layers,
        }
        if self.memory_bytes is not None:
            found["largest_batch"] = [
                {"optimizer": b.optimizer, "precision": b.precision, "batch": b.pictures} for b in self.batches
            ]
        found |= {"predicted": self.predicted, "latency": None}
        if self.measured is not None:
            found |= {"latency": to_dict(self.measured.latency), **self.measured.compared.as_dict()}
        return found


def count_costs(
    model: str, opened: Opened, batch: int, *, table: "Table | None" = None, memory_bytes: int | None = None
) -> Profile:
    """Count a model. table: the device's operators, to predict a latency; memory_bytes: for the largest batches."""
    from foveate.cli.calibrate import prediction
    from foveate.cost.count import cost
    from foveate.cost.plan import Plan

    counted = cost(opened.config, resolution=opened.preprocess.resolution, batch=batch)
    missing: list[str] = []
    trained, field = None, None
    try:
        trained = counted.memory(Plan())
    except FoveateError as error:
        missing.append(str(error))
    try:
        field = counted.receptive_field
    except FoveateError as error:
        missing.append(str(error))
    return Profile(
        model,
        counted,
        FLOAT32_BYTES * (counted.params + counted.buffers),
        trained,
        field,
        tuple(missing),
        predicted=None if table is None else prediction(counted.network, table, counted.resolution),
        memory_bytes=memory_bytes,
        batches=() if memory_bytes is None else tuple(largest(counted, memory_bytes)),
    )


def open_model(model: str, weights: bool) -> Opened:
    """The model of a name, folder or address. weights: it is measured and not only counted.

    A repository of timm's is a network of the zoo, in timm's form, with its weights where they are wanted.
    """
    from foveate.data.preprocess import Preprocess
    from foveate.runs.weights import hub_network
    from foveate.zoo import build, variant
    from foveate.zoo.hub import PREFIX, hub_facts, timm_name
    from foveate.zoo.weights import load_weights, weights_info

    facts = hub_facts(model) if model.startswith(PREFIX) else {}
    theirs = timm_name(facts)
    if theirs is None and (model.startswith(PREFIX) or Path(model).exists()):
        from foveate.train.artefact import load_model

        found, card = load_model(model_folder(model))
        return Opened(found, card.architecture, card.preprocess, card.classes)
    net, config = None, hub_network(model)[1] if theirs else variant(model)
    preprocess = Preprocess(resolution=config.resolution, resize=round(config.resolution * 8 / 7))
    if theirs is not None:
        preprocess = replace(preprocess, **weights_info(config, model))
        if weights:
            net = build(config).eval()
            load_weights(net, model)
    return Opened(net, config, preprocess, tuple(str(i) for i in range(config.num_classes)))


def largest(counted: "Cost", memory_bytes: int) -> list[Batch]:
    """The largest batch that fits, for the usual optimisers and precisions."""
    from foveate.cost.memory import largest_batch
    from foveate.cost.plan import Plan

    found = []
    for optimizer in OPTIMIZERS:
        for precision in ("fp32", "bf16"):
            plan = Plan(optimizer=optimizer, precision=precision)  # type: ignore[arg-type]
            try:
                fits = largest_batch(counted.network, memory_bytes, plan, counted.resolution, counted.in_chans)
            except BudgetError:
                fits = 0
            found.append(Batch(optimizer, precision, fits))
    return found


def parts(layers: Iterable["LayerCost"]) -> list[tuple[str, int, int]]:
    """(part, params, macs) in order of first use: layers folded by the first name of their path, with its number."""
    folded: dict[str, tuple[int, int]] = {}
    for layer in layers:
        part = part_of(layer.name)
        params, macs = folded.get(part, (0, 0))
        folded[part] = (params + layer.params, macs + layer.macs)
    return [(part, params, macs) for part, (params, macs) in folded.items() if params or macs]


def part_of(name: str) -> str:
    """The part that a module belongs to: the first name of its path, with its number."""
    names = name.split(".")
    return ".".join(names[: 2 if names[1:] and names[1].isdigit() else 1])


def bar_parts(layers: Iterable["LayerCost"], kept: Mapping[str, int]) -> list[tuple[str, int, int, int]]:
    """(part, params, macs, activation bytes)."""
    held: dict[str, int] = {}
    for name, size in kept.items():
        held[part_of(name)] = held.get(part_of(name), 0) + size
    return [(part, params, macs, held.get(part, 0)) for part, params, macs in parts(layers)]
