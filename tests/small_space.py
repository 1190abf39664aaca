"""A search space of a user's own, small enough to search in a test, and options that make its trials short."""

from foveate.data.index import open_data
from foveate.events import silent
from foveate.runs.plan import Budget
from foveate.train.signals import Stop
from foveate.workflows.search.design import Search
from foveate.workflows.search.in_time import clock_of
from foveate.workflows.search.run import designed, written
from foveate.workflows.search.run import trials as all_trials
from foveate.workflows.search.study import opened

SPACE = """
import foveate as fv
from foveate.search.space import Choice, Space

BASE = fv.replace(fv.variant("resnet20_cifar"), resolution=8)


def space():
    choices = [
        Choice("act", ("relu", "silu")),
        Choice("width", (4, 8, 16)),
        Choice("norm", ("batch_norm", "group_norm(groups=4)")),
    ]
    return Space(choices, name="tiny", make=make)


def make(values):
    width = values["width"]
    stages = tuple(fv.replace(s, width=width * 2**i, mid=(width * 2**i,)) for i, s in enumerate(BASE.stages))
    layers = fv.replace(BASE.layers, act=values["act"], norm=values["norm"])
    return fv.replace(BASE, stages=stages, stem_widths=(width,), layers=layers)
"""

SHORT = {"epochs": 1, "pictures": 256, "threads": 1, "front": 1}


def write_space(folder, text=SPACE):
    """The space in a file of this folder; its path."""
    path = folder / "tiny.py"
    path.write_text(text)
    return str(path)


def brief_recipe(folder):
    """A recipe file of two epochs, for a winner that is hardly trained; its path."""
    path = folder / "brief.toml"
    path.write_text("epochs = 2\nbatch = 64\n")
    return str(path)


def search_only(space, runs, *, workers, trials: int, ray=None, listener=silent):
    """The trials of a search by several workers that share its time, without a winner's training."""
    dataset = open_data("digits", seed=0, bad_files="stop")
    about = {"data": "digits", "name": "digits", "fingerprint": dataset.fingerprint, "space": str(space)}
    rough = Search(**about, sampler="random", budget=Budget(), trials=trials, pictures=256, threads=1)
    design = designed(rough, dataset, epochs=1)
    folder = written(design, None, runs)
    choices, clock = opened(design)[1], clock_of(folder, design)
    return all_trials(folder, design, choices, dataset, workers, ray, listener, Stop(), clock)
