"""Inception v2 and v3 (arXiv:1512.00567), Inception v4 and the two Inception-ResNets (arXiv:1602.07261).

Keys are generic (stages.2.1.branches.0.units.0.conv); those of torchvision, timm and facenet-pytorch are renamed.
"""

import bisect
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.config import Pixels, Probability, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo.families.inception.blocks import (
    MAX_UNITS,
    AuxHead,
    Branch,
    Embedding,
    Mixed,
    Stage,
    Unit,
    make_block,
    stride_of,
    suffices,
    width_of,
)
from foveate.zoo.family import HALF, Config, Family, Network, Published, check_blocks

__all__ = ["FAMILY", "VARIANTS", "Branch", "Inception", "InceptionConfig", "Mixed", "Stage", "Unit"]


@record
class InceptionConfig(Config):
    """Stages of Inception blocks, then mean, dropout, classifier.

    The papers' nets take 299 pixels and need at least 75, for most of their reductions have no padding. momentum of the
    norm is that of torchvision and timm; the official code averages far slower (TF decay 0.9997: momentum=0.0003).
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["inception"] = "inception"
    count_padding: bool = False  # of the mean pools; True: v3 in torchvision and timm. TensorFlow never counts it
    embedding: Width | None = None  # features before the classifier: linear and norm (facenet); None: there are none
    dropout: Probability = 0.2  # before the embedding and the classifier
    aux: bool = False  # a second classifier before the last stage, for training: see Inception.forward_aux
    aux_widths: tuple[Width, Width] = (128, 768)  # of its convolutions
    aux_norm: bool = True  # norms in it; False: what 1512.00567 table 3 has before "BN-auxiliary"
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001, momentum=0.1)")
    resolution: Pixels = 299

    def __post_init__(self) -> None:
        branches = [branch for stage in self.stages for block in stage.blocks for branch in block.branches]
        check_blocks(self, sum(max(1, len(b.units) + len(b.fork)) for b in branches), "units", MAX_UNITS)
        if self.aux and len(self.stages) < 2:
            raise ConfigError("InceptionConfig.aux = True needs two stages or more: it stands before the last one")
        if not suffices(self.stages, self.resolution):
            least = bisect.bisect_left(range(4096), True, key=lambda side: suffices(self.stages, side))
            raise ConfigError(
                f"InceptionConfig.resolution = {self.resolution}: too small for these stages; {least} or more"
            )


class Inception(Network):
    """Stages, mean over positions, dropout, embedding or none, classifier."""

    def __init__(self, config: InceptionConfig):
        super().__init__()
        stages, width, stride = [], config.in_chans, 1
        self.strides = []  # of every stage's output against the picture
        aux: AuxHead | None = None
        for number, stage in enumerate(config.stages, start=1):
            blocks = []
            for block in stage.blocks:
                blocks.append(make_block(block, width, stage.layers or config.layers, config.count_padding))
                width, stride = width_of(block, width), stride * stride_of(block)
            stages.append(nn.Sequential(*blocks))
            self.strides.append(stride)
            if config.aux and number == len(config.stages) - 1:
                layers = config.layers if config.aux_norm else replace(config.layers, norm="none")
                aux = AuxHead(width, config.aux_widths, config.num_classes, layers)
        self.stages = nn.Sequential(*stages)
        self.aux = aux
        self.dropout = nn.Dropout(config.dropout)
        self.num_features = width
        self.embedding: nn.Module = nn.Identity()
        if config.embedding is not None:
            self.embedding = Embedding(width, config.embedding, config.layers)
        self.fc = nn.Linear(config.embedding or width, config.num_classes)
        init_weights(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:  # (N, in_chans, H, W) -> (N, num_features, h, w)
        return self.stages(x)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.embedding(self.dropout(features.mean((2, 3)))))

    def forward_aux(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(logits, [logits of the auxiliary head]); the list is empty where config.aux is False.

        The auxiliary head sees what the last stage sees, 17x17 at 299 pixels; its loss is added with weight 0.4 in the
        official code. Pictures must have about 299 pixels or more.
        """
        *first, last = self.stages
        for stage in first:
            x = stage(x)
        aux = [] if self.aux is None else [self.aux(x)]
        return self.forward_head(last(x)), aux

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every stride, finest first. At 299 pixels: sides 147, 71, 35, 17, 8."""
        maps: dict[int, torch.Tensor] = {}
        for stage, stride in zip(self.stages, self.strides, strict=True):
            x = maps[stride] = stage(x)
        return list(maps.values())


def init_weights(model: Inception) -> None:
    """Variance 2 / fan-in for convolutions, Glorot for linear layers, 0.01 and 0.001 in the auxiliary head.

    As in TF-slim, but for the cut tails of its normals. torchvision: 0.1 for all, which no net without norms survives.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d:
            nn.init.kaiming_normal_(module.weight)
        elif type(module) is nn.Linear:
            nn.init.xavier_uniform_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if model.aux is not None:
        nn.init.normal_(model.aux.fc.weight, std=0.001)
        if type(conv := model.aux.conv1.conv) is nn.Conv2d:
            nn.init.normal_(conv.weight, std=0.01)


# What the published nets are made of. A row of a branch is (kernel, width), as in the papers' figures.

Row = tuple[int | tuple[int, int], int]
MAX = Branch(pool="max")


def branch(*rows: Row, trim: int = 0, down: int = 0, fork: int = 0) -> Branch:
    """Units in a row. At its end: trim, a 3x3 without padding; down, the same at stride 2; fork, 1x3 beside 3x1."""
    units = [Unit(width, kernel) for kernel, width in rows]
    units += [Unit(trim, 3, valid=True)] if trim else []
    units += [Unit(down, 3, stride=2, valid=True)] if down else []
    return Branch(tuple(units), fork=(Unit(fork, (1, 3)), Unit(fork, (3, 1))) if fork else ())


def mean(width: int) -> Branch:
    """Mean pool, 1x1."""
    return Branch((Unit(width),), pool="avg")


def mixed(*branches: Branch, scale: float | None = None) -> Mixed:
    """A block of branches."""
    return Mixed(branches, scale)


STEM = Stage((mixed(branch(down=32)), mixed(branch(trim=32)), mixed(branch((3, 64)))))  # 299 -> 147 pixels
NECK = Stage((mixed(MAX), mixed(branch((1, 80))), mixed(branch(trim=192))))  # -> 71; v4 has another


def v3() -> tuple[Stage, ...]:
    """Blocks A, B, C, D, E of torchvision; arXiv:1512.00567 figures 5, 10, 6, 10, 7."""

    def a(pooled: int) -> Mixed:
        return mixed(branch((1, 64)), branch((1, 48), (5, 64)), branch((1, 64), (3, 96), (3, 96)), mean(pooled))

    def c(mid: int) -> Mixed:
        wide, tall = (1, 7), (7, 1)
        single = branch((1, mid), (wide, mid), (tall, 192))
        double = branch((1, mid), (tall, mid), (wide, mid), (tall, mid), (wide, 192))
        return mixed(branch((1, 192)), single, double, mean(192))

    b = mixed(branch(down=384), branch((1, 64), (3, 96), down=96), MAX)
    d = mixed(branch((1, 192), down=320), branch((1, 192), ((1, 7), 192), ((7, 1), 192), down=192), MAX)
    e = mixed(branch((1, 320)), branch((1, 384), fork=384), branch((1, 448), (3, 384), fork=384), mean(192))
    fine, middle, coarse = (mixed(MAX), a(32), a(64), a(64)), (b, c(128), c(160), c(160), c(192)), (d, e, e)
    return STEM, NECK, Stage(fine), Stage(middle), Stage(coarse)


def v2() -> tuple[Stage, ...]:
    """Inception-v2 of arXiv:1512.00567 table 3, from which four steps lead to v3: v3 with a 7x7 for its three 3x3.

    The paper names the step, "factorized 7x7", and no more of the net before it; the 7x7 of stride 2 is our reading.
    """
    _, *others = v3()
    return Stage((mixed(Branch((Unit(64, 7, stride=2, valid=True),))),)), *others


def v4() -> tuple[Stage, ...]:
    """4 blocks A, 7 B, 3 C; arXiv:1602.07261 figures 3 to 9."""
    wide, tall = (1, 7), (7, 1)
    long = branch((1, 64), (wide, 64), (tall, 64), trim=96)
    neck = (mixed(MAX, branch(down=96)), mixed(branch((1, 64), trim=96), long))
    a = mixed(branch((1, 96)), branch((1, 64), (3, 96)), branch((1, 64), (3, 96), (3, 96)), mean(96))
    reduce_a = mixed(branch(down=384), branch((1, 192), (3, 224), down=256), MAX)
    single = branch((1, 192), (wide, 224), (tall, 256))
    double = branch((1, 192), (tall, 192), (wide, 224), (tall, 224), (wide, 256))
    b = mixed(branch((1, 384)), single, double, mean(128))
    reduce_b = mixed(branch((1, 192), down=192), branch((1, 256), (wide, 256), (tall, 320), down=320), MAX)
    forked = branch((1, 384), ((3, 1), 448), ((1, 3), 512), fork=256)
    c = mixed(branch((1, 256)), branch((1, 384), fork=256), forked, mean(256))
    fine = Stage((mixed(branch(down=192), MAX), *(a,) * 4))
    return STEM, Stage(neck), fine, Stage((reduce_a, *(b,) * 7)), Stage((reduce_b, *(c,) * 3))


def resnet_v1() -> tuple[Stage, ...]:
    """5 blocks A, 10 B, 5 C; arXiv:1602.07261 figures 10 to 14. A sixth C without activation as in facenet."""
    a = mixed(branch((1, 32)), branch((1, 32), (3, 32)), branch((1, 32), (3, 32), (3, 32)), scale=0.17)
    b = mixed(branch((1, 128)), branch((1, 128), ((1, 7), 128), ((7, 1), 128)), scale=0.1)
    c = mixed(branch((1, 192)), branch((1, 192), ((1, 3), 192), ((3, 1), 192)), scale=0.2)
    reduce_a = mixed(branch(down=384), branch((1, 192), (3, 192), down=256), MAX)
    long = branch((1, 256), (3, 256), down=256)
    reduce_b = mixed(branch((1, 256), down=384), branch((1, 256), down=256), long, MAX)
    last = replace(c, scale=1.0, act=False)
    fine = Stage((mixed(branch(down=256)), *(a,) * 5))
    return STEM, NECK, fine, Stage((reduce_a, *(b,) * 10)), Stage((reduce_b, *(c,) * 5, last))


def resnet_v2() -> tuple[Stage, ...]:
    """10 blocks A, 20 B, 10 C, the last without activation: TF-slim's net, whose weights are public.

    The paper's (figures 15 to 19) has v4's stem, 5, 10 and 5 blocks and other widths; no library has it.
    """
    first = mixed(branch((1, 96)), branch((1, 48), (5, 64)), branch((1, 64), (3, 96), (3, 96)), mean(64))
    a = mixed(branch((1, 32)), branch((1, 32), (3, 32)), branch((1, 32), (3, 48), (3, 64)), scale=0.17)
    b = mixed(branch((1, 192)), branch((1, 128), ((1, 7), 160), ((7, 1), 192)), scale=0.1)
    c = mixed(branch((1, 192)), branch((1, 192), ((1, 3), 224), ((3, 1), 256)), scale=0.2)
    reduce_a = mixed(branch(down=384), branch((1, 256), (3, 256), down=384), MAX)
    long = branch((1, 256), (3, 288), down=320)
    reduce_b = mixed(branch((1, 256), down=384), branch((1, 256), down=288), long, MAX)
    last = (replace(c, scale=1.0, act=False), mixed(branch((1, 1536))))
    fine = Stage((mixed(MAX), first, *(a,) * 10))
    return STEM, NECK, fine, Stage((reduce_a, *(b,) * 20)), Stage((reduce_b, *(c,) * 9, *last))


VARIANTS: dict[str, InceptionConfig] = {
    "inception_v2": InceptionConfig(v2(), count_padding=True, dropout=0.5, aux_norm=False),
    "inception_v3": InceptionConfig(v3(), count_padding=True, dropout=0.5),
    "inception_v4": InceptionConfig(v4()),
    "inception_resnet_v1": InceptionConfig(resnet_v1(), embedding=512, dropout=0.6),
    "inception_resnet_v2": InceptionConfig(resnet_v2()),
}

# Public names of modules -> (stage, block); an index behind the name counts on from there.
Places = Mapping[str, tuple[int, int]]
_CONVS = {"conv2d_1a": (0, 0), "conv2d_2a": (0, 1), "conv2d_2b": (0, 2), "conv2d_3b": (1, 1), "conv2d_4a": (1, 2)}
_SHARED = _CONVS | {f"mixed_{s + 3}{letter}": (s, i) for s in (2, 3, 4) for i, letter in enumerate("abcde")}
_RESNET_V2 = {"repeat": (2, 2), "repeat_1": (3, 1), "repeat_2": (4, 1), "block8": (4, 10), "conv2d_7b": (4, 11)}
_V4_BLOCKS = ((0, 3), (1, 2), (2, 5), (3, 8), (4, 4))  # (stage, its blocks): timm counts through
_V4 = {f"features.{n}": place for n, place in enumerate((s, i) for s, blocks in _V4_BLOCKS for i in range(blocks))}
_TIMM: Places = _SHARED | _RESNET_V2 | _V4
_FACENET: Places = _SHARED | {
    "conv2d_4b": (2, 0),
    "repeat_1": (2, 1),
    "repeat_2": (3, 1),
    "repeat_3": (4, 1),
    "block8": (4, 6),
}
_V3_BRANCHES = {  # of torchvision and timm, in our order; the first block of a stage by its own name
    "mixed_5": ("1x1", "5x5", "3x3dbl", "_pool"),
    "mixed_6a": ("3x3", "3x3dbl"),
    "mixed_6": ("1x1", "7x7", "7x7dbl", "_pool"),
    "mixed_7a": ("3x3", "7x7x3"),
    "mixed_7": ("1x1", "3x3", "3x3dbl", "_pool"),
}


def _unit(module: str, rest: str) -> str:
    """The part of a key below its block."""
    if rest.startswith("conv2d."):
        return f"up.{rest.removeprefix('conv2d.')}"
    if rest.startswith(("conv.conv.", "conv.bn.")):  # beside a pool, in the stem of v4
        return f"branches.{1 if module == 'features.3' else 0}.units.0.{rest.removeprefix('conv.')}"
    names = _V3_BRANCHES.get(module) or _V3_BRANCHES.get(module[:-1], ())
    found = re.match(r"branch(_pool|\w+?)(?:[._](\d)([ab]?))?\.(?=conv|bn)", rest)
    if found and found[1] in names:  # v3: units count from 1
        number, index = names.index(found[1]), int(found[2] or 1) - 1
    elif found and found[1] in "0123":  # the others: from 0; the fourth branch has a pool before its only unit
        number = int(found[1])
        index = 0 if number == 3 else int(found[2] or 0)
    else:
        return f"branches.0.units.0.{rest}"
    end = f"fork.{'ab'.index(found[3])}" if found[3] else f"units.{index}"
    return f"branches.{number}.{end}.{rest[found.end() :]}"


def _renamed(key: str, places: Places, ends: Mapping[str, str]) -> str:
    """A key as ours; one of no known form comes back as it is."""
    found = re.match(r"(features\.\d+|\w+?)(?:_\dx\d)?\.(?:(\d+)\.)?(?=conv|bn|branch)", key.lower())
    if found and found[1] in places:
        stage, block = places[found[1]]
        return f"stages.{stage}.{block + int(found[2] or 0)}.{_unit(found[1], key[found.end() :])}"
    first, dot, rest = key.partition(".")
    return f"{ends.get(first, first)}{dot}{rest}"


def from_timm(key: str) -> str:
    """A key of timm's inception_v3, inception_v4 or inception_resnet_v2 as ours; v3's are torchvision's too."""
    return _renamed(key, _TIMM, {"AuxLogits": "aux", "last_linear": "fc", "classif": "fc"})


def from_facenet(key: str) -> str:
    """A key of facenet-pytorch's InceptionResnetV1 as ours."""
    return _renamed(key, _FACENET, {"last_linear": "embedding.fc", "last_bn": "embedding.bn", "logits": "fc"})


RETHINKING = "Rethinking the Inception Architecture for Computer Vision"
INCEPTION_V4 = "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"
CSV, FACENET = "timm results csv", "facenet-pytorch 20180402-114759-vggface2"
# torchvision's weights want mean and std 0.5 too: its net changes pictures of ImageNet's mean and std back to these
TORCHVISION = ("torchvision IMAGENET1K_V1", "torchvision Inception_V3_Weights.IMAGENET1K_V1")

PUBLISHED = {
    "inception_v2": Published(RETHINKING, "1512.00567", 76.6, "paper, table 3", "", 342, 299, mean=HALF, std=HALF),
    "inception_v3": Published(RETHINKING, "1512.00567", 77.294, *TORCHVISION, 342, 299, mean=HALF, std=HALF),
    "inception_v4": Published(
        INCEPTION_V4, "1602.07261", 80.144, CSV, "timm inception_v4.tf_in1k", 341, 299, "bicubic", HALF, HALF
    ),
    "inception_resnet_v1": Published(  # public weights only for faces, cut out of their pictures
        INCEPTION_V4, "1602.07261", None, "", f"{FACENET}: 8631 people", 160, 160, mean=HALF, std=HALF
    ),
    "inception_resnet_v2": Published(
        INCEPTION_V4, "1602.07261", 80.434, CSV, "timm inception_resnet_v2.tf_in1k", 333, 299, "bicubic", HALF, HALF
    ),
}

TINY = InceptionConfig(
    (
        Stage((Mixed((Branch((Unit(8, 3, 2),)),)),)),
        Stage(
            (
                Mixed((Branch((Unit(8, 3, 2, True),)), Branch(pool="max"))),
                Mixed(
                    (
                        Branch((Unit(8),), "avg"),
                        Branch((Unit(8),), fork=(Unit(4, (1, 3)), Unit(4, (3, 1)))),
                    )
                ),
            )
        ),
        Stage(
            (
                Mixed((Branch((Unit(8, 3, 2),)),)),
                Mixed(
                    (
                        Branch((Unit(4),)),
                        Branch((Unit(4), Unit(4, (7, 1)))),
                    ),
                    0.2,
                ),
            )
        ),
    ),
    resolution=32,
)

FAMILY = Family(
    InceptionConfig,
    Inception,
    VARIANTS,
    ("fc.", "aux.fc."),
    {"timm": from_timm, "facenet": from_facenet},
    PUBLISHED,
    auxiliary=("aux.",),
    aux_weight=0.4,
    folds=True,
    tiny=TINY,
    least=75,
    ragged=True,
)
