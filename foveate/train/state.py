"""All that changes during training."""

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foveate.train import ranks
from foveate.train.lookahead import Lookahead
from foveate.train.optim import Average, freeze, has_statistics, make_optimizer
from foveate.train.recipe import Loss, Recipe
from foveate.train.teacher import Teacher
from foveate.zoo.families import FAMILIES
from foveate.zoo.family import Family, find_config


class Outputs(nn.Module):
    """A network as training sees it: x -> [logits, those of each auxiliary head]."""

    def __init__(self, model: nn.Module, aux: bool):
        super().__init__()
        self.model, self.aux = model, aux

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.aux:
            with_aux: Any = self.model.forward_aux
            logits, others = with_aux(x)
            return [logits, *others]
        return [self.model(x)]


def aux_weight(model: nn.Module, loss: Loss) -> float:
    """What each auxiliary head's loss is multiplied by: the recipe's word, else that of the family's publication."""
    if loss.aux is not None:
        return loss.aux
    config = find_config(model)
    return Family.aux_weight if config is None else FAMILIES[config.family].aux_weight


def averages(recipe: Recipe) -> bool:
    """Whether a run by this recipe has a second network for averaged weights."""
    return recipe.ema > 0 or recipe.optim.name.startswith("schedule_free")


class State:
    """Model, optimiser, average, loss scale, and how many steps are done.

    parts: in how many parts a batch is computed; it doubles where the memory is too small for one.
    alone: how often since the process began norms took their running statistics for a picture that was alone (step.py).
    """

    def __init__(self, model: nn.Module, shadow: nn.Module | None, recipe: Recipe, head: tuple[str, ...], device: str):
        self.model, self.step, self.skipped, self.parts = model.to(device), 0, 0, recipe.parts
        self.alone = 0
        self.quiet_norms = freeze(model, recipe.freeze)
        if recipe.frozen_norms:
            self.quiet_norms = [m for m in model.modules() if has_statistics(m)]
        if recipe.layout == "nhwc":
            model.to(memory_format=torch.channels_last)
        self.head = head
        self.optimizer = make_optimizer(model, recipe.optim, head)
        self.shadow = shadow.to(device) if shadow is not None else None
        self.average = Average(model, self.shadow, recipe.ema) if self.shadow is not None and recipe.ema > 0 else None
        self.lookahead: Lookahead | None = None
        if recipe.optim.lookahead:
            learnt = [p for p in model.parameters() if p.requires_grad]
            self.lookahead = Lookahead(learnt, recipe.optim.lookahead, recipe.optim.lookahead_rate)
        self.scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "fp16")
        self.teacher: Teacher | None = None
        self.aux_weight = aux_weight(model, recipe.loss)
        aux = self.aux_weight > 0 and callable(getattr(model, "forward_aux", None))
        self.network: Outputs | DistributedDataParallel = Outputs(model, aux)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    @property
    def best(self) -> nn.Module:
        """The network to evaluate and save: the average where there is one (train/best.py makes it ready)."""
        return self.shadow if self.shadow is not None else self.model

    def follow(self) -> None:
        """Averaged and slow weights become those of the model, which something other than a step has changed."""
        if self.shadow is not None:
            self.shadow.load_state_dict(self.model.state_dict())
        if self.lookahead is not None:
            self.lookahead.follow()

    def join(self) -> None:
        """Let the gradients of all processes be averaged from now on, and their weights be those of rank 0."""
        if ranks.world() > 1 and isinstance(self.network, Outputs):
            devices = [self.device] if self.device.type == "cuda" else None
            # before every forward pass all take rank 0's buffers: what is saved is then all that the next step needs
            idle = not self.network.aux and callable(getattr(self.model, "forward_aux", None))
            self.network = DistributedDataParallel(self.network, devices, find_unused_parameters=idle)
