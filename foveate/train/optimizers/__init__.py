"""Optimisers, one idea a file. A new one is one file and one line here.

A maker takes (groups, optim, options...): groups as train/optim.py makes them, each with its decay; the loop sets the
rates. State is tensors and plain numbers, so that checkpoints hold it exactly.
"""

from collections.abc import Callable, Mapping

import torch

from foveate.train.optimizers.lamb import make_lamb
from foveate.train.optimizers.lars import make_lars
from foveate.train.optimizers.muon import make_muon
from foveate.train.optimizers.plain import make_adamw, make_sgd
from foveate.train.optimizers.rmsprop_tf import make_rmsprop_tf
from foveate.train.optimizers.schedule_free import make_schedule_free_adamw, make_schedule_free_sgd
from foveate.train.optimizers.sphere_sgd import make_sphere_sgd

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": make_sgd,
    "adamw": make_adamw,
    "rmsprop_tf": make_rmsprop_tf,
    "lars": make_lars,
    "lamb": make_lamb,
    "muon": make_muon,
    "schedule_free_sgd": make_schedule_free_sgd,
    "schedule_free_adamw": make_schedule_free_adamw,
    "sphere_sgd": make_sphere_sgd,
}
