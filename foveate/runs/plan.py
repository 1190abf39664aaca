"""A plan: everything that a run needs to be done again or to go on, made from what the user gave."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import PlainValidator

from foveate import __version__
from foveate.config import (
    NonNegative,
    Positive,
    dotted_paths,
    field_names,
    override,
    parse_json,
    record,
    replace,
)
from foveate.data.index import Dataset, open_data
from foveate.data.load import free_bytes
from foveate.data.preprocess import Preprocess, at_resolution, grey, with_change
from foveate.data.sample import is_small
from foveate.errors import ConfigError
from foveate.recipes import find_recipe
from foveate.recipes.adapt import adapt
from foveate.runs.defaults import default_preprocess, facts_of, recipe_for
from foveate.runs.devices import Device, DeviceName, check_device
from foveate.runs.weights import hub_network, weights_at_hand
from foveate.train.check import checked
from foveate.train.probe import check_step
from foveate.train.recipe import Recipe
from foveate.zoo import ARCHITECTURES, config_from, variant
from foveate.zoo.family import Config
from foveate.zoo.hub import PREFIX
from foveate.zoo.sources import form_for, public_weights
from foveate.zoo.tensors import read_small

NAMED = ("epochs", "augment.flip", "augment.crop", "augment.lighting")  # of a recipe that was asked for by its name


@record
class Budget:
    """What the device can afford; None: no limit."""

    max_latency_ms: Positive | None = None
    max_size_bytes: int | None = None
    max_macs: int | None = None
    max_memory_bytes: int | None = None
    time_s: NonNegative | None = None
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"  # in which the latency counts


def read_architecture(value: Any) -> Config:
    """A record of a zoo family as it is; plain data as the record of the family that its `family` names.

    Raises ConfigError for an unknown family and for what its record refuses.
    """
    known = tuple(family.config for family in ARCHITECTURES.values())
    return cast(Config, value) if isinstance(value, known) else config_from(value, "architecture")


# one of the records of the zoo's families, told apart by their `family`
Architecture = Annotated[Config, PlainValidator(read_architecture)]


@record
class Plan:
    """recipe.json: everything that a run needs to be done again or to go on."""

    data: str
    model: str
    architecture: Architecture
    recipe: Recipe
    preprocess: Preprocess
    most_epochs: int = 0  # to which a training may be lengthened whose epochs were cut to fit a time; 0: it is not
    weights: str | None = None
    head_start: bool = False  # the classifier starts from a logistic regression on the frozen features
    bad_files: Literal["stop", "skip"] = "stop"
    follow_links: bool = False  # take what links outside of the data lead to
    device: Device = "cpu"
    threads: int = 0  # of the latency measurement; 0: all
    budget: Budget = Budget()
    fingerprint: str = ""  # of the data
    notes: tuple[str, ...] = ()  # how the recipe follows the data, a line for each change
    command: str = ""
    changes: tuple[str, ...] = ()  # KEY=VALUE as typed
    version: str = __version__


def network(text: str) -> Any:
    """The config that a user names: a variant of the zoo, the architecture of a model or run folder, a JSON file, or
    "hf-hub:ORG/NAME", whose repository tells it.
    """
    if text.startswith(PREFIX):
        return hub_network(text)[1]
    path = Path(text)
    if path.suffix == ".json" and path.is_file():
        data = parse_json(read_small(path), text)
        return config_from(data.get("architecture", data) if isinstance(data, dict) else data, text)
    for folder in (path, path / "best"):
        if (folder / "config.json").is_file():
            from foveate.train.artefact import read_card

            return read_card(folder)[0].architecture
    return variant(text)


def prepare(
    data: str | Path,
    model: str,
    *,
    recipe: str | Recipe | None = None,
    overrides: Sequence[str] = (),
    weights: str | None = None,
    seed: int = 0,
    device: DeviceName = "cpu",
    bad_files: Literal["stop", "skip"] = "stop",
    follow_links: bool = False,
    opened: Dataset | None = None,
) -> tuple[Plan, Dataset]:
    """The plan of a run and its data, as run.train describes them; nothing is written and nothing trained.

    opened: the data, where it is in memory already.

    Raises ConfigError or DataError.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe or Recipe()
    rooms: dict[str, list[str]] = {"model": [], "preprocess": [], "recipe": []}
    for text in overrides:
        room, rest = room_of(text)
        rooms[room].append(rest)
    check_rooms(network(model), rooms["recipe"])
    if auto := "batch=auto" in rooms["recipe"]:
        rooms["recipe"].remove("batch=auto")
    # before the data is read: a typing error should not cost a scan
    asked = override(network(model), rooms["model"])
    check_step(asked, checked(override(chosen, rooms["recipe"])))
    channels = asked.in_chans
    for text in rooms["preprocess"]:
        with_change(grey(Preprocess()) if channels == 1 else Preprocess(), text)
    place = check_device(device)
    dataset = opened or open_data(data, seed=seed, bad_files=bad_files, follow_links=follow_links)
    pictures = len(dataset.splits["train"])
    weights = settle_weights(weights, model, recipe, dataset)
    given, notes = [text.partition("=")[0] for text in rooms["recipe"]] + ["batch"] * auto, list[str]()
    if recipe is None:
        chosen, notes = recipe_for(dataset, weights, given)
    elif isinstance(recipe, str):  # a named recipe is what it says, but for a batch that leaves an epoch no steps
        chosen, notes = adapt(chosen, facts_of(dataset, weights), [*given, *NAMED])
    chosen = override(chosen, rooms["recipe"])
    # what the user says of the network counts more than what the recipe says
    published = form_for(network(model), weights or "")
    config = override(apply_edits(published, chosen.edits), rooms["model"])
    config = replace(config, num_classes=len(dataset.classes))
    preprocess = apply_test_options(default_preprocess(model, config, dataset, weights), chosen)
    for text in rooms["preprocess"]:
        preprocess = with_change(preprocess, text)
    if preprocess.channels != config.in_chans:
        raise ConfigError(
            f"preprocess.mean has {preprocess.channels} numbers, model.in_chans = {config.in_chans}: expected as many"
        )
    if auto:
        chosen = replace(chosen, batch=find_batch(config, chosen, preprocess, pictures, place))
    check_step(config, chosen, preprocess.resolution, pictures)
    plan = Plan(
        data=str(data),
        model=model,
        architecture=config,
        recipe=replace(chosen, seed=seed),
        preprocess=preprocess,
        weights=weights,
        head_start=weights is not None,
        bad_files=bad_files,
        follow_links=follow_links,
        device=place,
        fingerprint=dataset.fingerprint,
        notes=tuple(notes),
        command=command_line(),
        changes=tuple(overrides),
    )
    return plan, dataset


def settle_weights(weights: str | None, model: str, recipe: object, dataset: Dataset) -> str | None:
    """The source of the weights that a named network starts from; None: from scratch.

    "auto": those of this very network that are on this machine, for photographs, and without a recipe of one's own,
    which is for a start from scratch; a network of a hub always starts from its own. "hub": the public ones of this
    network. ConfigError where there are none.
    """
    if weights == "auto":
        at_hand = model.startswith(PREFIX) or (recipe is None and not is_small(dataset))
        return weights_at_hand(model, network(model)) if at_hand else None
    if weights == "hub":
        if (public := public_weights().get(model)) is None:
            raise ConfigError(f"--weights hub: no hub has weights of {model}; take --weights none")
        return public.address
    return None if weights == "none" else weights


def room_of(text: str) -> tuple[str, str]:
    """("model", "preprocess" or "recipe": which record a KEY=VALUE changes, KEY=VALUE as that record knows it)."""
    room, _, rest = text.partition(".")
    return (room, rest) if room in ("model", "preprocess", "recipe") else ("recipe", text)


def check_rooms(config: Config, changes: Sequence[str]) -> None:
    """ConfigError for a change of the recipe whose key is one of the network or of preprocess, with how to write it."""
    for text in changes:
        key = text.partition("=")[0]
        if key.partition(".")[0] in field_names(Recipe()):
            continue
        rooms = {"model": config, "preprocess": Preprocess()}
        paths = [f"{room}.{path}" for room, record in rooms.items() for path in dotted_paths(record)]
        same = [path for path in paths if path == f"model.{key}" or path == f"preprocess.{key}"]
        same = same or [path for path in paths if path.endswith(f".{key}")]
        if same and not any(path.rpartition(".")[2] == key for path in dotted_paths(Recipe())):
            raise ConfigError(f'{key}: unknown key "{key}"; did you mean {" or ".join(same[:3])}?')


def find_batch(config: Config, recipe: Recipe, preprocess: Preprocess, pictures: int, device: str) -> int:
    """The largest batch that trains in the memory that is free now, a multiple of 8 where it is that large.

    At most four times the recipe's own, and a sixteenth of the pictures, so that an epoch keeps its steps; the rate
    follows it where the recipe has optim.lr_batch. Raises BudgetError where not one picture fits.
    """
    import torch

    from foveate.cost.memory import largest_batch

    size = recipe.resolution or preprocess.resolution
    if device == "cuda":
        free = int(0.9 * torch.cuda.mem_get_info()[0])
    else:  # what malloc holds back of freed blocks comes on top of the tensors, up to 38 % of them
        free = int(0.65 * (free_bytes() - pictures * 3 * size * size))
    fits = largest_batch(config, free, recipe, resolution=size)
    wanted = min(fits, 4 * recipe.batch, max(8, pictures // 16))
    return wanted // 8 * 8 if wanted >= 8 else wanted


def apply_test_options(preprocess: Preprocess, recipe: Recipe) -> Preprocess:
    """The preprocessing with the recipe's test resolution, crop and decoding; thumbnails are not cropped."""
    preprocess = replace(preprocess, decode="exact" if recipe.decode == "exact" else "scaled")
    if recipe.test_resolution:
        preprocess = at_resolution(preprocess, recipe.test_resolution)
    if recipe.test_crop and preprocess.fit == "crop":
        preprocess = replace(preprocess, resize=round(preprocess.resolution / recipe.test_crop))
    return preprocess


def apply_edits(config: Config, edits: Sequence[str]) -> Any:
    """The config with a recipe's edits; one whose first field this family has not is passed over."""
    known = field_names(config)
    return override(config, [text for text in edits if text.split("=")[0].split(".")[0] in known])


def check_runtime(runtime: str) -> None:
    """ConfigError where a runtime is not installed, with what to install."""
    if runtime == "openvino":
        from foveate.deploy.openvino import require

        require()


def command_line() -> str:
    """How this process was called, for "how to reproduce"."""
    name = Path(sys.argv[0]).name.replace("__main__.py", "foveate")
    return shlex.join([name or "python", *sys.argv[1:]])
