"""DenseNet, arXiv:1608.06993: every layer of a block reads the maps of all layers before it; for ImageNet and CIFAR.

Keys are torchvision's (features.conv0, features.denseblock1.denselayer1.norm1, features.transition1.conv, classifier);
the gates, which it lacks, are denselayerN.se. Nets for CIFAR have the same grammar, with conv0 alone as stem.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Probability, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.family import Config, Family, Network, Published, check_blocks
from foveate.zoo.frame import init_convs

MAX_LAYERS = 1024  # dense layers in all blocks together; DenseNet-BC-250 has 123


@record
class Stage:
    """A dense block and the transition behind it. The depth is len(growth)."""

    growth: Annotated[tuple[Width, ...], Field(min_length=1, max_length=1024)]  # channels that each layer adds
    # output channels of each layer's 1x1 convolution (DenseNet-B: 4 times its growth); (): layers of one 3x3 each
    mid: Annotated[tuple[Width, ...], Field(max_length=1024)] = ()
    transition: Width | None = None  # channels of the 1x1 convolution behind the block; None: the last block
    layers: Layers | None = None  # in place of the net's layers in this block and its transition

    def __post_init__(self) -> None:
        if self.mid and len(self.mid) != len(self.growth):
            raise ConfigError(f"Stage.mid has {len(self.mid)} values: expected none or one a layer, {len(self.growth)}")


@record
class DenseNetConfig(Config):
    """A DenseNet. Widths are absolute: functions below turn growth rate and compression into them."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["densenet"] = "densenet"
    order: Literal["pre"] = "pre"  # norm-act-conv; there is no other
    # 7x7 stride 2, norm, activation, 3x3 stride 2 maximum; or a bare 3x3 stride 1
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_width: Width = 64
    dropout: Probability = 0.0  # behind every convolution but the first; the paper: 0.2 where data is not augmented
    memory_efficient: bool = False  # training computes concatenations and norms again instead of keeping them

    def __post_init__(self) -> None:
        check_blocks(self, sum(len(s.growth) for s in self.stages), "layers", MAX_LAYERS)
        for i, stage in enumerate(self.stages):
            if (stage.transition is None) != (i == len(self.stages) - 1):
                raise ConfigError(f"stages.{i}.transition = {stage.transition}: a width for all blocks but the last")


@contextmanager
def statistics_kept(norm: nn.Module) -> Iterator[None]:
    """Buffers of norm are afterwards what they were: a second pass over the same batch must not be counted again."""
    kept = [(m, name, b) for m in norm.modules() for name, b in m.named_buffers(recurse=False)]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())  # not written back in place: autograd may have saved the buffer
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)


class DenseLayer(nn.Module):
    """norm-act-1x1 to mid, norm-act-3x3 to growth, gate; without mid one norm-act-3x3. Reads all maps before it."""

    def __init__(self, c_in: int, growth: int, mid: int | None, layers: Layers, config: DenseNetConfig):
        super().__init__()
        self.memory_efficient = config.memory_efficient
        self.norm1 = layers.make_norm(c_in)
        self.act1 = layers.make_act(c_in)
        self.conv1 = layers.make_conv(c_in, mid or growth, 1 if mid else 3)
        self.conv2: nn.Module | None = None
        if mid:
            self.drop1 = nn.Dropout(config.dropout)
            self.norm2 = layers.make_norm(mid)
            self.act2 = layers.make_act(mid)
            self.conv2 = layers.make_conv(mid, growth, 3)
        self.se = layers.make_attn(growth, growth)
        self.drop2 = nn.Dropout(config.dropout)  # torchvision and timm drop here only, not behind the 1x1

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:  # (N, c, H, W) each, c_in in all -> (N, growth, H, W)
        again = self.memory_efficient and self.training and torch.is_grad_enabled()
        y = self.read_again(maps) if again else self.read(*maps)
        if self.conv2 is not None:
            y = self.conv2(self.act2(self.norm2(self.drop1(y))))
        return self.drop2(self.se(y))

    def read(self, *maps: torch.Tensor) -> torch.Tensor:  # -> (N, mid or growth, H, W)
        return self.conv1(self.act1(self.norm1(torch.cat(maps, 1))))

    def read_again(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """read, keeping only the maps: what lies between is computed again in the backward pass. arXiv:1707.06990.

        torchvision's memory_efficient updates running statistics in both passes; here, as in the authors' code, once.
        """
        from torch.utils.checkpoint import checkpoint

        def passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), statistics_kept(self.norm1)

        made: torch.Tensor = checkpoint(self.read, *maps, use_reentrant=False, context_fn=passes)
        return made


class DenseBlock(nn.Module):
    """Dense layers; x and all that they add, concatenated."""

    def __init__(self, c_in: int, stage: Stage, config: DenseNetConfig):
        super().__init__()
        for i, growth in enumerate(stage.growth):
            mid = stage.mid[i] if stage.mid else None
            layer = DenseLayer(c_in, growth, mid, stage.layers or config.layers, config)
            self.add_module(f"denselayer{i + 1}", layer)
            c_in += growth

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_in + sum of growth, H, W)
        maps = [x]
        for layer in self.children():
            maps.append(layer(maps))
        return torch.cat(maps, 1)


class Transition(nn.Module):
    """norm-act-1x1, then the mean of 2x2 positions. It may write into its input where it has no norm."""

    def __init__(self, c_in: int, c_out: int, layers: Layers, dropout: float):
        super().__init__()
        self.norm = layers.make_norm(c_in)
        self.act = layers.make_act(c_in)
        self.conv = layers.make_conv(c_in, c_out, 1)
        self.drop = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, c_out, H / 2, W / 2)
        return self.pool(self.drop(self.conv(self.act(self.norm(x)))))


class DenseNet(Network):
    """Stem, dense blocks with transitions between, norm, activation, mean over positions, linear classifier."""

    def __init__(self, config: DenseNetConfig):
        super().__init__()
        parts, width = make_stem(config), config.stem_width
        for i, stage in enumerate(config.stages, start=1):
            layers = stage.layers or config.layers
            parts[f"denseblock{i}"] = DenseBlock(width, stage, config)
            width += sum(stage.growth)
            if stage.transition is not None:
                parts[f"transition{i}"] = Transition(width, stage.transition, layers, config.dropout)
                width = stage.transition
        parts["norm5"] = layers.make_norm(width)  # torchvision's name, whatever the number of blocks
        parts["relu5"] = layers.make_act(width)
        self.features = nn.Sequential(parts)
        self.classifier = nn.Linear(width, config.num_classes)
        self.num_features = width
        self.init_weights()

    def init_weights(self) -> None:
        """The authors' start: convolutions normal with variance 2 / (k * k * c_out). torchvision's has fan-in there."""
        init_convs(self)
        nn.init.zeros_(self.classifier.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.features(x)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.classifier(features.mean((2, 3)))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first: the stem's (ImageNet), then each block's.

        The last one is forward_features(x); the outputs of blocks before it are concatenations that no norm has seen.
        """
        maps = []
        for part in self.features:
            if isinstance(part, nn.MaxPool2d | Transition):
                maps.append(x)
                x = x.clone() if isinstance(part, Transition) else x
            x = part(x)
        return [*maps, x]


def make_stem(config: DenseNetConfig) -> OrderedDict[str, nn.Module]:
    """What reads the picture. The stem for CIFAR is a bare convolution: every reader normalises for itself."""
    layers, width = config.layers, config.stem_width
    if config.stem == "cifar":
        return OrderedDict(conv0=layers.make_conv(config.in_chans, width, 3))
    return OrderedDict(
        conv0=layers.make_conv(config.in_chans, width, 7, stride=2),
        norm0=layers.make_norm(width),
        relu0=layers.make_act(width),
        pool0=nn.MaxPool2d(3, 2, padding=1),
    )


def stages(
    depths: tuple[int, ...], k: int, width: int, *, compression: float = 0.5, bottleneck: bool = True
) -> tuple[Stage, ...]:
    """Blocks of growth rate k on a stem of `width` channels. A bottleneck has 4 k channels; a transition lets
    `compression` of its channels through, rounded down.
    """
    rows = []
    for i, depth in enumerate(depths):
        width += depth * k
        narrow = None if i == len(depths) - 1 else int(width * compression)
        rows.append(Stage((k,) * depth, (4 * k,) * depth if bottleneck else (), narrow))
        width = narrow or width
    return tuple(rows)


def imagenet(depths: tuple[int, ...], k: int = 32) -> DenseNetConfig:
    """DenseNet-BC with four blocks for 224 pixels. Table 1."""
    return DenseNetConfig(stages(depths, k, 2 * k), stem_width=2 * k)


def cifar(depth: int, k: int, *, bc: bool = False) -> DenseNetConfig:
    """Three equal blocks for 32 pixels and 10 classes, section 4.2. Plain: a stem of 16 channels, one 3x3 a layer, all
    channels pass. BC: a stem of 2 k, bottlenecks, half of the channels pass.

    pytorchcv's plain nets halve the channels and begin with 2 k; their counts are not the paper's.
    """
    depths, width = ((depth - 4) // (6 if bc else 3),) * 3, 2 * k if bc else 16
    blocks = stages(depths, k, width, compression=0.5 if bc else 1.0, bottleneck=bc)
    return DenseNetConfig(blocks, stem="cifar", stem_width=width, num_classes=10, resolution=32)


VARIANTS: dict[str, DenseNetConfig] = {
    "densenet121": imagenet((6, 12, 24, 16)),
    "densenet161": imagenet((6, 12, 36, 24), k=48),
    "densenet169": imagenet((6, 12, 32, 32)),
    "densenet201": imagenet((6, 12, 48, 32)),
    **{f"densenet{d}_k{k}_cifar": cifar(d, k) for d, k in ((40, 12), (100, 12), (100, 24))},
    "densenet100_bc_cifar": cifar(100, 12, bc=True),
    "densenet250_bc_k24_cifar": cifar(250, 24, bc=True),
    "densenet190_bc_k40_cifar": cifar(190, 40, bc=True),
}


def from_torchvision(key: str) -> str:
    """A key of torchvision's files as ours: they are older than its code and write norm.1 for norm1."""
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)


PAPER = Published("Densely Connected Convolutional Networks", "1608.06993")
TORCHVISION = {121: 74.434, 161: 77.138, 169: 75.600, 201: 76.896}  # top-1 of IMAGENET1K_V1
CIFAR = {  # test accuracy on CIFAR-10 with shifted and mirrored pictures: table 2
    "densenet40_k12_cifar": 94.76,
    "densenet100_k12_cifar": 95.90,
    "densenet100_k24_cifar": 96.26,
    "densenet100_bc_cifar": 95.49,
    "densenet250_bc_k24_cifar": 96.38,
    "densenet190_bc_k40_cifar": 96.54,
}
PUBLISHED: dict[str, Published] = {
    **{
        f"densenet{d}": replace(
            PAPER,
            top1=top1,
            source="torchvision IMAGENET1K_V1",
            weights=f"torchvision DenseNet{d}_Weights.IMAGENET1K_V1",
        )
        for d, top1 in TORCHVISION.items()
    },
    **{
        name: replace(PAPER, top1=top1, source="paper, table 2", resize=32, resolution=32)
        for name, top1 in CIFAR.items()
    },
}

TINY = DenseNetConfig((Stage((4, 4), (8, 8), 8), Stage((4, 4))), stem="cifar", stem_width=8)

FAMILY = Family(
    DenseNetConfig, DenseNet, VARIANTS, ("classifier.",), {"torchvision": from_torchvision}, PUBLISHED, tiny=TINY
)
