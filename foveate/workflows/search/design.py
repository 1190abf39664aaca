"""What a search on pictures is, as a value: search.json of its folder, all that is needed to go on."""

from typing import Annotated, Any, Literal

from pydantic import Field

from foveate import __version__
from foveate.config import make, parse_call, pick, record, replace
from foveate.data.index import Dataset
from foveate.data.preprocess import Preprocess, at_resolution
from foveate.data.sample import is_small
from foveate.errors import ConfigError
from foveate.recipes import find_recipe
from foveate.runs.defaults import default_preprocess, recipe_for, recipe_name
from foveate.runs.devices import Device
from foveate.runs.plan import Budget
from foveate.search import SAMPLERS, SINGLE, SPACES, load_space, sampler
from foveate.search.rewards import make_reward
from foveate.search.space import Space
from foveate.train.recipe import Recipe
from foveate.workflows.search.subnets.source import NAME as SUBNETS
from foveate.workflows.search.subnets.source import SubnetSpace, is_subnets, subnet_space
from foveate.zoo.family import Config

OBJECTIVES = ("accuracy", "latency_ms", "macs", "params", "size_bytes")
FAST = {"airbench": "cifar_fast"}  # what its rates are made for: other families stay at chance with it
FAST_EPOCHS, FAST_BATCH = 15, 250  # most of a full training; of a short one, which has few pictures
PHOTO_SIDE = 128  # pixels
LEAST, FEWEST = 8, 2  # trials that a time is to hold, and that are made however slow the machine is
Count = Annotated[int, Field(ge=1, le=10_000_000)]


@record
class Search:
    """search.json."""

    data: str
    name: str  # of the data
    fingerprint: str
    space: str  # a call of SPACES with resolution and classes, or a Python file
    sampler: str = "predictor"
    reward: str = "strict"
    evaluate: str = "train"  # how a net is valued: train, supernet, children, or a name of SCORES (evaluators.py)
    objectives: tuple[str, ...] = ("accuracy",)
    budget: Budget = Budget()
    trials: Count | None = None  # different nets; None: as many as the time allows
    front: Annotated[int, Field(ge=1, le=5)] = 1  # models that the search ends with, the winner among them
    share: Annotated[float, Field(gt=0, le=1)] = 0.6  # of the time, for the search; the rest is for training the winner
    recipe: Recipe = Recipe()  # of the winner's full training
    proxy: Recipe = Recipe()  # of the short trainings
    own_recipes: bool = False  # nets of a family with a recipe of its own (FAST) are trained by that
    pictures: Count = 5000  # of the training split, for the short trainings
    preprocess: Preprocess = Preprocess()
    storage: str = ""  # of the study; "": study.db in the folder
    seed: int = 0
    threads: int = 0
    device: Device = "cpu"
    bad_files: Literal["stop", "skip"] = "stop"
    follow_links: bool = False  # take what links outside of the data lead to
    command: str = ""
    version: str = __version__

    @property
    def needs_latency(self) -> bool:
        """Whether the latency or the size of a file has to be measured for every net."""
        timed = {"latency_ms", "size_bytes"} & set(self.objectives)
        return bool(timed) or self.budget.max_latency_ms is not None or self.budget.max_size_bytes is not None

    @property
    def directions(self) -> tuple[str, ...]:
        """Which way each objective goes."""
        return tuple("maximize" if name == "accuracy" else "minimize" for name in self.objectives)


def fitted_space(text: str, dataset: Dataset, resolution: int | None) -> tuple[str, Space]:
    """(call string, space) for these pictures: resolution and number of classes are set where the space takes them."""
    if is_code(text):
        return text, load_space(text)
    name, options = parse_call(text)
    if name == SUBNETS:
        options |= {"resolution": resolution} if resolution else {}
        try:
            found = subnet_space(dataset, **options)
        except TypeError:
            raise ConfigError(f"--space {text}: expected subnets(of=NAME or model folder, resolution=PIXELS)") from None
        size = found.source.candidate.config.resolution
        return f"{SUBNETS}(of={options['of']!r}, resolution={size}, num_classes={len(dataset.classes)})", found
    pick({**SPACES, SUBNETS: subnet_space}, name, "space")
    size = resolution or (small_side(dataset) if is_small(dataset) else PHOTO_SIDE)
    options = {"resolution": size, "num_classes": len(dataset.classes), **options}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
    try:
        return call, make(SPACES, call, "space")
    except TypeError as error:  # a space of a table takes neither
        raise ConfigError(f"--space {text}: {error}") from None


def is_code(space: str) -> bool:
    """Whether a space is a Python file, which is run, and not a call of SPACES."""
    return space.endswith(".py")


def small_side(dataset: Dataset) -> int:
    """Resolution for thumbnails."""
    from foveate.selection.shortlist import small_size

    return small_size(dataset)


def config_of(space: Space, net: tuple[int, ...], dataset: Dataset) -> Any:
    """The record of a net for the classes of these pictures."""
    return replace(space.config(net), num_classes=len(dataset.classes))


def proxy_recipe(recipe: Recipe, epochs: int) -> Recipe:
    """The short form of a recipe: no average of weights, a brief warm-up, plain float32."""
    schedule = replace(recipe.schedule, kind="cosine", warmup=min(0.5, epochs / 4))
    return replace(recipe, epochs=epochs, ema=0.0, schedule=schedule, precision="fp32", layout="nhwc", threads=0)


def check_reward(text: str, objectives: tuple[str, ...], budget: Budget) -> None:
    """ConfigError for a reward that is none, or that these objectives and limits leave without a meaning."""
    limits = (budget.max_latency_ms, budget.max_size_bytes, budget.max_macs, budget.max_memory_bytes)
    make_reward(text, limited=any(limit is not None for limit in limits))
    if text != "strict" and len(objectives) > 1:
        raise ConfigError(
            f"--reward {text} makes one number, and --objectives {','.join(objectives)} are searched side by side;"
            " leave one of both out"
        )


def check_request(sampler_text: str, reward: str, objectives: tuple[str, ...], space: Space) -> None:
    """ConfigError for what can not be meant, before anything is measured."""
    name, _ = parse_call(sampler_text)
    pick(SAMPLERS, name, "sampler")
    sampler(sampler_text, space, 0)
    make_reward(reward)
    for objective in objectives:
        if objective not in OBJECTIVES:
            raise ConfigError(f'--objectives: "{objective}" is none of {", ".join(OBJECTIVES)}')
    if objectives[0] != "accuracy":
        raise ConfigError(f"--objectives {','.join(objectives)}: the first one is accuracy")
    if len(objectives) > 1 and name in SINGLE:
        raise ConfigError(f"--sampler {name} knows one objective; take predictor, nsga2, tpe or random")


def default_recipes(
    dataset: Dataset, name: str | None, epochs: int, seed: int, weights: str | None = None
) -> tuple[Recipe, Recipe]:
    """(recipe of the winner, recipe of the short trainings). weights: what the nets of the space begin with, if any."""
    if name is None and weights is not None:
        full = replace(recipe_for(dataset, weights)[0], seed=seed)
    else:
        full = replace(find_recipe(name or recipe_name(dataset, weights)), seed=seed)
    return full, proxy_recipe(full, epochs)


def recipes_of(design: Search, config: Config) -> tuple[Recipe, Recipe]:
    """(recipe of the full training, recipe of the short one) of a net: of the search, or those of its family."""
    name = FAST.get(config.family) if design.own_recipes else None
    if name is None:
        return design.recipe, design.proxy
    full = replace(find_recipe(name), epochs=FAST_EPOCHS, seed=design.seed)
    return full, proxy_recipe(replace(full, batch=FAST_BATCH), design.proxy.epochs)


def search_preprocess(space: Space, dataset: Dataset) -> Preprocess:
    """How pictures are prepared for the nets of a space, the largest where they differ."""
    if isinstance(space, SubnetSpace):
        return space.source.candidate.preprocess
    first = space.complete([-1] * len(space.choices))
    return default_preprocess("", config_of(space, first, dataset), dataset, None)


def preprocess_of(design: Search, config: Config) -> Preprocess:
    """How pictures are prepared for a net: the sub-networks of a net choose their own resolution."""
    return at_resolution(design.preprocess, config.resolution) if is_subnets(design.space) else design.preprocess


def default_evaluate(space: str, evaluate: str | None) -> str:
    """How nets of a space are valued: sub-networks by the weights that they share. ConfigError for what can not be."""
    if not is_subnets(space):
        return evaluate or "train"
    if evaluate is not None and parse_call(evaluate)[0] != "children":
        raise ConfigError(
            f"--evaluate {evaluate}: the sub-networks of a net are valued by the weights that they share; leave it out,"
            " or say children(epochs=10, randoms=2)"
        )
    return evaluate or "children"
