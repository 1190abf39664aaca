"""Architecture search: spaces, samplers, rewards and studies. A new one is one file and one line in a table here.

SAMPLERS    name -> maker(space, seed, options) of an Optuna sampler; "evolution(population=20)" sets options
SPACES      name -> maker(options) of a Space; "mnasnet(resolution=32, num_classes=10)" sets options. load_space also
            takes a Python file of the user's own
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate.config import make
from foveate.errors import ConfigError
from foveate.search.samplers import optunas
from foveate.search.samplers.evolution import Evolution
from foveate.search.samplers.local import Local
from foveate.search.samplers.predictor import Predictor
from foveate.search.samplers.searcher import Searcher
from foveate.search.space import Space, make_again


def as_sampler(space: Space, searcher: Searcher, seed: int) -> Any:
    """The searcher as an optuna.samplers.BaseSampler: storage, dashboard and workers are Optuna's.

    The trial must ask for the space's choices by their names (foveate.search.study does).
    """
    from foveate.search.samplers.bridge import SearcherSampler

    return SearcherSampler(space, searcher, seed)


def ours(searcher: Callable[..., Searcher], *, sees_space: bool = False) -> Callable[..., Any]:
    """The maker of a sampler from one of our searchers; sees_space: its constructor takes the space first."""

    def maker(space: Space, seed: int, **options: Any) -> Any:
        made = searcher(space, **options) if sees_space else searcher(**options)
        return as_sampler(space, made, seed)

    return maker


def controller(space: Space, seed: int, **options: Any) -> Any:
    """The recurrent controller; torch is imported here."""
    from foveate.search.samplers.controller import Controller

    return as_sampler(space, Controller(space, seed=seed, **options), seed)


def stored(module: str) -> Callable[..., Space]:
    """The maker of a space in spaces/; the file, and with it torch where it knows the zoo, is imported on call."""

    def maker(**options: Any) -> Space:
        return make_again(module, options)

    return maker


SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "random": optunas.random,
    "evolution": ours(Evolution),
    "local": ours(Local),
    "controller": controller,
    "tpe": optunas.tpe,
    "nsga2": optunas.nsga2,
    "predictor": ours(Predictor, sees_space=True),
}
SINGLE = ("evolution", "local", "controller")  # they know one objective only
SPACES: Mapping[str, Callable[..., Space]] = {
    "nasbench201": stored("nasbench201"),
    "nasbench_macro": stored("nasbench_macro"),
    "mnasnet": stored("mnasnet"),
    "mobilenet": stored("mobilenet"),
    "efficientnet_base": stored("efficientnet_base"),
    "mixnet": stored("mixnet"),
    "resnet": stored("resnet"),
    "nasnet": stored("nasnet"),
    "nas": stored("nas"),
    "thumbnail": stored("thumbnail"),
}


def sampler(text: str, space: Space, seed: int) -> Any:
    """The Optuna sampler that a call string names: sampler("evolution(population=20)", space, seed=0)."""
    return make(SAMPLERS, text, "sampler", space, seed)


def load_space(text: str) -> Space:
    """The space that a text names: "mnasnet", "mnasnet(resolution=32, num_classes=10)", or a Python file.

    A file ("my_space.py") is run as it is, with all rights of this process: name only files that you would run
    yourself. It has a function space() that returns a foveate.search.space.Space. ConfigError, in one line, for
    everything that is wrong with it.
    """
    path = Path(text)
    if path.suffix != ".py":
        return make(SPACES, text, "space")
    if not path.is_file():
        raise ConfigError(f"{text}: no such file; expected a Python file with a function space()")
    name = f"foveate_space_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # records look for their module there
    try:
        spec.loader.exec_module(module)
        made = module.space()
    except Exception as error:  # whatever the user's file does
        missing = isinstance(error, AttributeError) and not hasattr(module, "space")
        what = "it has no function space()" if missing else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{text}: {' '.join(what.split())}{_line(error, path)}") from error
    if not isinstance(made, Space):
        raise ConfigError(f"{text}: space() returned a {type(made).__name__}; expected a foveate.search.space.Space")
    return made


def _line(error: BaseException, path: Path) -> str:
    """Where in the file an error came from: " (line 3)"."""
    if isinstance(error, SyntaxError):
        return ""  # its text says so
    frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.absolute()]
    return f" (line {frames[-1]})" if frames else ""
