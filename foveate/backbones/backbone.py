"""Classifiers as backbones: backbone() makes the feature maps of any network, rate_groups() rates by depth.

What stands on a backbone is in detection.py (Faster R-CNN) and segmentation.py (FCN); both take any Backbone.
"Better classifier, better detector" is arXiv:1812.01187 section 6; here any network of the zoo can be put to that test.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.bn_small_init import learning_rate_factors
from foveate.layers.traits import is_norm, kernel_names
from foveate.train.artefact import load_model
from foveate.train.optim import has_statistics
from foveate.zoo import FAMILIES, build, variant
from foveate.zoo.family import IMAGENET_MEAN, IMAGENET_STD, get_config
from foveate.zoo.survey import Survey, survey
from foveate.zoo.survey import distances as stages_away
from foveate.zoo.weights import load_weights, weights_info

Source = Any  # a module or a config of the zoo, the name of a variant, or a model folder


class Backbone(nn.Module):
    """The feature maps of a network, each on the grid of its stride. Made by backbone().

    x: pictures (N, C, H, W), normalised with mean and std -> [(N, widths[i], h / strides[i], w / strides[i]), ...],
    finest first, where h and w are H and W rounded up to the coarsest stride (zeros are added right and below).
    Maps of networks without padding are smaller than that; their cells keep their distance, and the border is repeated.
    """

    def __init__(self, net: Any, found: Survey, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.net, self.strides, self.widths, self.depth = net, found.strides, found.widths, found.depth
        self.mean, self.std = tuple(mean), tuple(std)
        self.quiet: list[nn.Module] = []  # stay in evaluation mode

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = F.pad(x, (0, -x.shape[3] % self.strides[-1], 0, -x.shape[2] % self.strides[-1]))
        height, width = x.shape[2:]
        maps = self.net.feature_maps(x)
        return [on_grid(m, height // s, width // s) for m, s in zip(maps, self.strides, strict=True)]

    def train(self, mode: bool = True) -> "Backbone":
        """As nn.Module.train, but frozen norms and stages stay in evaluation mode."""
        super().train(mode)
        for module in self.quiet:
            module.eval()
        return self

    def levels(self, finest: int) -> list[int]:
        """Which maps have stride `finest` or a coarser one; the last of all, if none has."""
        return [i for i, s in enumerate(self.strides) if s >= finest] or [len(self.strides) - 1]


def on_grid(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A map brought to a size without resampling: cut or repeated at the borders, as evenly as it goes."""
    for axis, size in ((2, height), (3, width)):
        if (have := x.shape[axis]) != size:
            places = torch.arange(size, device=x.device) - (size - have) // 2
            x = x.index_select(axis, places.clamp(0, have - 1))
    return x


def backbone(
    source: Source,
    *,
    weights: Any = None,
    frozen_stages: int = 0,
    frozen_norms: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Backbone:
    """The part of a classifier that makes its feature maps; what only the classifier needs is left out.

    source: a module of the zoo (it is copied and stays as it is; its parameters without gradient have none here), a
    config, the name of a variant, or a model folder of foveate.
    weights: for a config or a name, what load_weights takes ("lite", a file, a model folder, "hf-hub:ORG/NAME"); the
    number of classes may differ.
    frozen_stages: how many maps, from the finest, stay what they are: their parameters get no gradient, and their norms
    and drop paths stay in evaluation mode. For resnet50, 2 is torchvision's trainable_backbone_layers=3.
    frozen_norms: running statistics, gains and biases of all norms stay (torchvision: FrozenBatchNorm2d).
    mean, std: of the normalisation, one value a channel; None takes those of the model folder, the weights or the named
    variant, else ImageNet's (their averages where there are not three channels).
    Raises ConfigError, and WeightsError where weights do not fit.
    """
    net, facts = opened(source, weights)
    config = get_config(net)
    found = survey(config)
    if missing := found.depth.keys() - dict(net.named_parameters()).keys():
        raise ConfigError(f"backbone: the module lacks {min(missing)}, which its config has; give a module as built")
    if not 0 <= frozen_stages <= len(found.strides):
        raise ConfigError(f"backbone(frozen_stages={frozen_stages}): this network has {len(found.strides)} stages")
    made = Backbone(
        net,
        found,
        mean or for_channels(facts.get("mean", IMAGENET_MEAN), config.in_chans),
        std or for_channels(facts.get("std", IMAGENET_STD), config.in_chans),
    )
    leave_out(net, set(found.depth))
    freeze(made, frozen_stages, frozen_norms)
    return made.train()


def opened(source: Source, weights: Any) -> tuple[nn.Module, dict[str, Any]]:
    """(the module of a source, what is known of its preprocessing)."""
    if weights is not None and isinstance(source, nn.Module | Path):
        raise ConfigError("backbone: weights go with a config or a name; this source has its own, leave weights out")
    if isinstance(source, nn.Module):
        if not hasattr(source, "config"):
            raise ConfigError(f"backbone: a {type(source).__name__} without config; give a module that build() made")
        return copy.deepcopy(source), {}
    if isinstance(source, Path):
        net, card = load_model(source)
        return net, {"mean": card.preprocess.mean, "std": card.preprocess.std}
    if isinstance(source, str) and (Path(source) / "config.json").exists():
        return opened(Path(source), weights)
    config = variant(source) if isinstance(source, str) else source
    published = FAMILIES[config.family].published.get(source) if isinstance(source, str) else None
    facts: dict[str, Any] = {"mean": published.mean, "std": published.std} if published else {}
    net = build(config)
    if weights is not None:
        load_weights(net, weights, except_head=True)
        facts |= weights_info(config, weights)
    return net, facts


def for_channels(values: Sequence[float], channels: int) -> Sequence[float]:
    """One value a channel: the values, or their average as often as it takes."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def leave_out(module: nn.Module, used: set[str], prefix: str = "") -> None:
    """Put nn.Identity for every part that has parameters of which none is used."""
    for name, child in list(module.named_children()):
        names = {f"{prefix}{name}.{own}" for own, _ in child.named_parameters()}
        if names and not names & used:
            setattr(module, name, nn.Identity())
        else:
            leave_out(child, used, f"{prefix}{name}.")


def freeze(made: Backbone, stages: int, norms: bool) -> None:
    """Switch off gradients, and note what stays in evaluation mode: see backbone()."""
    for name, p in made.net.named_parameters():
        p.requires_grad_(p.requires_grad and made.depth.get(name, -1) >= stages)
    if norms:
        for module in made.net.modules():
            if is_norm(module):
                module.requires_grad_(False)
                made.quiet.append(module)
            elif has_statistics(module):  # a convolution that whitens: its kernel is no gain
                made.quiet.append(module)
    for module in made.net.modules() if stages else ():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            made.quiet.append(module)


def rate_groups(model: nn.Module, lr: float, decay: float, *, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for fine-tuning with learning rates lr * decay ** distance (arXiv:1801.06146 section 3.2).

    model: of the zoo, or a detector or segmenter over one. distance: 0 for the head, which is all that no feature map
    depends on; 1 for what only the last map depends on, and so on to the stem. That paper divides by 2.6 a layer; here
    a depth is a stage.
    Groups carry "lr" and "factor" (lr is lr * factor, for foveate.train.optim.set_lr), which holds what layers ask for
    themselves (bn_small_init) too. weight_decay is for kernels (layers/traits.py), as in parameter_groups. Frozen
    parameters are in no group. The head comes first.
    """
    if not (lr > 0 and 0 < decay <= 1):
        raise ConfigError(f"rate_groups(lr={lr}, decay={decay}): lr above 0, decay above 0 and at most 1")
    far = distances(model)
    asked, kernels = learning_rate_factors(model), kernel_names(model)
    groups: dict[tuple[int, bool, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups.setdefault((far.get(name, 0), name in kernels, asked.get(name, 1.0)), []).append(p)
    return [
        {
            "params": groups[key],
            "lr": lr * decay ** key[0] * key[2],
            "factor": decay ** key[0] * key[2],
            "weight_decay": weight_decay if key[1] else 0.0,
        }
        for key in sorted(groups)
    ]


def distances(model: nn.Module) -> dict[str, int]:
    """Name of a parameter that feature maps depend on -> how many stages it is away from the head, from 1."""
    for name, module in model.named_modules():
        if isinstance(module, Backbone):
            prefix = f"{name}.net." if name else "net."
            return {prefix + own: len(module.strides) - i for own, i in module.depth.items()}
    if not hasattr(model, "config"):
        raise ConfigError(f"rate_groups: a {type(model).__name__} without config; give a module that build() made")
    return stages_away(get_config(model))
