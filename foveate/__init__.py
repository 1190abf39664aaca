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
    from foveate.data.gate.check import check as check
    from foveate.data.preprocess import Preprocess as Preprocess
    from foveate.data.torch_dataset import Dataset as Dataset
    from foveate.deploy.classifier import Classifier as Classifier
    from foveate.deploy.exported import load as load
    from foveate.deploy.write import export as export
    from foveate.errors import BudgetError as BudgetError
    from foveate.errors import ConfigError as ConfigError
    from foveate.errors import DataError as DataError
    from foveate.errors import FoveateError as FoveateError
    from foveate.errors import WeightsError as WeightsError
    from foveate.layers import Layers as Layers
    from foveate.runs.complete import train as train
    from foveate.runs.estimator import FoveateClassifier as FoveateClassifier
    from foveate.runs.evaluate import Evaluation as Evaluation
    from foveate.runs.evaluate import evaluate as _evaluate
    from foveate.runs.plan import Budget as Budget
    from foveate.runs.plugin import add_entry as add_entry
    from foveate.runs.plugin import load_plugin as load_plugin
    from foveate.runs.run import Run as Run
    from foveate.workflows.ablate.run import ablate as ablate
    from foveate.workflows.analyse.run import analyse as analyse
    from foveate.workflows.compress.run import compress as compress
    from foveate.workflows.fit import fit as fit
    from foveate.workflows.search.run import search as search
    from foveate.zoo import build as build
    from foveate.zoo import create_model as create_model
    from foveate.zoo import list_models as list_models
    from foveate.zoo import variant as variant
    from foveate.zoo.weights import load_weights as load_weights

    eval = _evaluate

__version__ = "0.2.0"

_WHERE = {
    "Budget": "foveate.runs.plan",
    "BudgetError": "foveate.errors",
    "Classifier": "foveate.deploy.classifier",
    "ConfigError": "foveate.errors",
    "DataError": "foveate.errors",
    "Dataset": "foveate.data.torch_dataset",
    "Evaluation": "foveate.runs.evaluate",
    "FoveateClassifier": "foveate.runs.estimator",
    "FoveateError": "foveate.errors",
    "Layers": "foveate.layers",
    "Preprocess": "foveate.data.preprocess",
    "Run": "foveate.runs.run",
    "WeightsError": "foveate.errors",
    "ablate": "foveate.workflows.ablate.run",
    "add_entry": "foveate.runs.plugin",
    "analyse": "foveate.workflows.analyse.run",
    "build": "foveate.zoo",
    "check": "foveate.data.gate.check",
    "compress": "foveate.workflows.compress.run",
    "cost": "foveate.cost.count",
    "create_model": "foveate.zoo",
    "eval": "foveate.runs.evaluate:evaluate",
    "export": "foveate.deploy.write",
    "fit": "foveate.workflows.fit",
    "list_models": "foveate.zoo",
    "load": "foveate.deploy.exported",
    "load_plugin": "foveate.runs.plugin",
    "load_weights": "foveate.zoo.weights",
    "replace": "foveate.config",
    "search": "foveate.workflows.search.run",
    "set_path": "foveate.config",
    "train": "foveate.runs.complete",
    "variant": "foveate.zoo",
}
__all__ = [*sorted(_WHERE), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    place, _, other = _WHERE[name].partition(":")
    return getattr(import_module(place), other or name)


class _Package(ModuleType):
    """Keeps foveate.train, .cost, .search and .compress the functions, which submodules of those names would shadow."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)
