"""Named recipes, one a file. A new one is one file and one line here; find_recipe takes files of users too."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.config import MAX_JSON_BYTES, from_dict, parse_json, pick
from foveate.errors import ConfigError
from foveate.recipes import (
    bag_of_tricks,
    baseline,
    cifar_fast,
    cifar_standard,
    efficientnet,
    finetune,
    inception,
    linear_probe,
    mobilenet,
    nfnet,
    resnet_strikes_back_a1,
    resnet_strikes_back_a2,
    resnet_strikes_back_a3,
    shufflenet,
    small_pictures,
    torchvision_v2,
)
from foveate.train.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {
    "bag_of_tricks": bag_of_tricks.RECIPE,
    "baseline": baseline.RECIPE,
    "cifar_fast": cifar_fast.RECIPE,
    "cifar_standard": cifar_standard.RECIPE,
    "efficientnet": efficientnet.RECIPE,
    "finetune": finetune.RECIPE,
    "inception": inception.RECIPE,
    "linear_probe": linear_probe.RECIPE,
    "mobilenet": mobilenet.RECIPE,
    "nfnet": nfnet.RECIPE,
    "resnet_strikes_back_a1": resnet_strikes_back_a1.RECIPE,
    "resnet_strikes_back_a2": resnet_strikes_back_a2.RECIPE,
    "resnet_strikes_back_a3": resnet_strikes_back_a3.RECIPE,
    "shufflenet": shufflenet.RECIPE,
    "small_pictures": small_pictures.RECIPE,
    "torchvision_v2": torchvision_v2.RECIPE,
}

FILES = (".json", ".toml")


def find_recipe(text: str) -> Recipe:
    """The recipe of a name of RECIPES, or of a .json or .toml file; the recipe.json of a run folder is one too.

    A file holds the fields that differ from Recipe(). ConfigError for an unknown name or key (with near ones), a key
    that stands twice, and a file that is empty, missing or of another kind.
    """
    path = Path(text)
    if text in RECIPES or not (path.suffix or len(path.parts) > 1 or path.is_file()):
        return pick(RECIPES, text, "recipe")
    if path.suffix.lower() not in FILES:
        raise ConfigError(f"--recipe {text}: expected a name, or a file that ends in {' or '.join(FILES)}")
    data = read_fields(path)
    if isinstance(data, dict) and isinstance(data.get("recipe"), dict) and "architecture" in data:  # of a run folder
        data = data["recipe"]
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{path}: no field in it; expected fields of a recipe such as epochs and optim")
    made: Recipe = from_dict(Recipe, data, str(path))
    return made


def read_fields(path: Path) -> Any:
    """A JSON or TOML file as plain data, by safe loaders."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--recipe {path}: {(error.strerror or str(error)).lower()}") from None
    if path.suffix.lower() == ".json" or len(raw) > MAX_JSON_BYTES:
        return parse_json(raw, str(path))
    try:
        text = raw.decode("utf-8-sig")
        if not text.strip():
            raise ConfigError(f"{path}: the file is empty; expected TOML")
        data = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; expected TOML") from None
    except tomllib.TOMLDecodeError as error:  # keys that stand twice too
        raise ConfigError(f"{path}: {str(error)[:1].lower()}{str(error)[1:]}; expected TOML") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deep") from None
    return parse_json(json.dumps(data, default=str), str(path))  # no NaN; a date is a text
