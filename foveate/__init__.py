"""foveate turns a folder of images into the best classifier that fits your device.

The public names below are loaded when first used, so that `foveate --help` needs no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `as`: type checkers take the names as exported
    from foveate.config import replace as replace
    from foveate.config import set_path as set_path
    from foveate.cost.count import cost as cost
    from foveate.deploy.exported import load as load
    from foveate.errors import BudgetError as BudgetError
    from foveate.errors import ConfigError as ConfigError
    from foveate.errors import DataError as DataError
    from foveate.errors import FoveateError as FoveateError
    from foveate.errors import WeightsError as WeightsError
    from foveate.layers import Layers as Layers
    from foveate.runs.complete import train as train
    from foveate.workflows.ablate.run import ablate as ablate
    from foveate.workflows.fit import fit as fit
    from foveate.zoo import build as build
    from foveate.zoo import create_model as create_model
    from foveate.zoo import list_models as list_models
    from foveate.zoo import variant as variant
    from foveate.zoo.weights import load_weights as load_weights

__version__ = "0.2.0"

_WHERE = {
    "BudgetError": "foveate.errors",
    "ConfigError": "foveate.errors",
    "DataError": "foveate.errors",
    "FoveateError": "foveate.errors",
    "Layers": "foveate.layers",
    "WeightsError": "foveate.errors",
    "ablate": "foveate.workflows.ablate.run",
    "build": "foveate.zoo",
    "cost": "foveate.cost.count",
    "create_model": "foveate.zoo",
    "fit": "foveate.workflows.fit",
    "list_models": "foveate.zoo",
    "load": "foveate.deploy.exported",
    "load_weights": "foveate.zoo.weights",
    "replace": "foveate.config",
    "set_path": "foveate.config",
    "train": "foveate.runs.complete",
    "variant": "foveate.zoo",
}
__all__ = [*sorted(_WHERE), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


class _Package(ModuleType):
    """Keeps foveate.train and .cost the functions: importing the submodules of those names would shadow them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)
