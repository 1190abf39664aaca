"""foveate turns a folder of images into the best classifier that fits your device.

The public names below are loaded when first used, so that `foveate --help` needs no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.config import replace, set_path
    from foveate.cost.count import cost
    from foveate.deploy.exported import load
    from foveate.errors import BudgetError, ConfigError, DataError, FoveateError, WeightsError
    from foveate.layers import Layers
    from foveate.runs.complete import train
    from foveate.workflows.ablate.run import ablate
    from foveate.workflows.fit import fit
    from foveate.zoo import build, create_model, list_models, variant
    from foveate.zoo.weights import load_weights

__version__ = "0.1.0"

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
