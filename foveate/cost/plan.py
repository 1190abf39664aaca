"""How a network is trained, as far as memory is concerned."""

from collections.abc import Mapping
from typing import Any, Literal

from foveate.config import Count, record
from foveate.errors import ConfigError

# tensors of state that an optimiser keeps for each weight
SLOTS: Mapping[str, int] = {
    "sgd": 0,
    "momentum": 1,
    "adam": 2,
    "adamw": 2,
    "lamb": 2,
    "lars": 1,
    "muon": 1,  # norms, biases and classifier, stepped by AdamW: two
    "rmsprop_tf": 2,  # centered: one more
    "schedule_free_sgd": 1,
    "schedule_free_adamw": 2,
    "sphere_sgd": 0,
}


Optimizer = Literal[
    "sgd",
    "momentum",
    "adam",
    "adamw",
    "lamb",
    "lars",
    "muon",
    "rmsprop_tf",
    "schedule_free_sgd",
    "schedule_free_adamw",
    "sphere_sgd",
]


@record
class Plan:
    """Optimiser, precision and what else keeps copies of the weights. plan_of(recipe) reads it off a recipe."""

    optimizer: Optimizer = "momentum"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # 16 bits: autocast; the float32 weights are the master copy
    ema: bool = False  # an average of weights and buffers
    lookahead: bool = False  # slow weights
    sam: bool = False  # a second gradient at weights that were moved
    parts: Count = 1  # a batch is computed in so many parts, one after the other
    aux: bool = False  # auxiliary heads, where the network has forward_aux


def plan_of(recipe: Any) -> Plan:
    """What a recipe of foveate.train says about memory. "auto" precision counts as float32: the larger of the two."""
    optim = recipe.optim
    name = optim.name.partition("(")[0].strip()
    if name not in SLOTS:
        raise ConfigError(f'optim.name "{optim.name}": its memory is not known; known: {", ".join(SLOTS)}')
    return Plan(
        optimizer="momentum" if name == "sgd" and optim.momentum > 0 else name,
        precision="fp32" if recipe.precision == "auto" else recipe.precision,
        ema=recipe.ema > 0,
        lookahead=optim.lookahead > 0,
        sam=optim.sam > 0,
        parts=recipe.parts,
        aux=recipe.loss.aux != 0,
    )
