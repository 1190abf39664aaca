"""NASNet, arXiv:1707.07012: two cells, found by search on CIFAR-10, stacked for any picture size.

Keys say where a cell stands and what it computes (stages.1.0.blocks.3.left.dw1); from_timm and from_pytorchcv map
nasnetalarge and nasnet_4a1056, nasnet_6a4032.

The two inputs of a cell may differ in size, for the one before the last cell can stand before a reduction. Then the
larger one is halved by a factorized reduction (blocks.FactorizedReduction): strided 1x1 convolutions of its even
and of its odd pixels, half of the filters each. Which cells need it follows from their places, not from a picture.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.config import Probability, Width, record, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import set_progress
from foveate.layers.same import Padding
from foveate.zoo.families.nasnet.blocks import Block, Cell, CellWidths, Genotype, Place
from foveate.zoo.family import HALF, Config, Family, Network, Published, rename

__all__ = ["FAMILY", "VARIANTS", "Block", "CellWidths", "Genotype", "NASNet", "NASNetConfig", "Stage"]

MAX_OPS = 4096  # operations in all cells together; 6@4032 has 220

NORMAL_A = Genotype(  # figure 4, left
    (
        Block(0, "sep_5x5", 1, "sep_3x3"),
        Block(1, "sep_5x5", 1, "sep_3x3"),
        Block(0, "avg_3x3", 1, "identity"),
        Block(1, "avg_3x3", 1, "avg_3x3"),
        Block(0, "sep_3x3", 0, "identity"),
    ),
    (1, 2, 3, 4, 5, 6),  # state 1 too, although blocks read it
)
REDUCTION_A = Genotype(  # figure 4, right
    (
        Block(0, "sep_5x5", 1, "sep_7x7"),
        Block(0, "max_3x3", 1, "sep_7x7"),
        Block(0, "avg_3x3", 1, "sep_5x5"),
        Block(3, "identity", 2, "avg_3x3"),
        Block(2, "sep_3x3", 0, "max_3x3"),
    ),
    (3, 4, 5, 6),  # state 3 too
)


@record
class Stage:
    """Cells of one resolution. In every stage but the first the first cell is a reduction cell."""

    cells: Annotated[tuple[CellWidths, ...], Field(min_length=1, max_length=512)]
    layers: Layers | None = None  # in place of the net's layers in this stage


@record
class NASNetConfig(Config):
    """A NASNet of any genotype. Widths are absolute; stack() makes the N @ F of the paper."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)]
    family: Literal["nasnet"] = "nasnet"
    normal: Genotype = NORMAL_A
    reduction: Genotype = REDUCTION_A
    stem: Literal["imagenet", "cifar"] = "imagenet"  # 3x3: stride 2 without padding; stride 1 with padding
    stem_width: Width = 32
    stem_cells: Annotated[tuple[CellWidths, ...], Field(max_length=8)] = ()  # reduction cells before the first stage
    # the cell after a reduction cell reads what the reduction cell read as "previous", not its input (6@4032)
    skip_reduction_input: bool = False
    padding: Padding = "same"  # "symmetric": k // 2 on all sides, another function at even sizes
    dropout: Probability = 0.5  # before the classifier
    # ScheduledDropPath: cell i of n, from 1, drops the result of an operation at drop_path * i / n * progress, where
    # progress grows from 0 to 1 over the training (NASNet.set_progress)
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)] = 0.0
    aux: bool = False  # a second classifier before the last reduction, for training: forward_aux
    count_padding: bool = False  # a strided mean counts the zeros of SAME padding: timm's form, and that of its weights
    _: KW_ONLY
    layers: Layers = Layers("batch_norm(eps=0.001, momentum=0.0003)")

    def __post_init__(self) -> None:
        ops = 2 * sum(len(genotype.blocks) for genotype, *_ in self.plan())
        if ops > MAX_OPS:
            raise ConfigError(f"NASNetConfig.stages: {ops:,} operations in all cells; at most {MAX_OPS:,}")
        for genotype, widths, _, _ in self.plan():
            if widths.mid and len(widths.mid) != genotype.doubles:
                raise ConfigError(
                    f"NASNetConfig: a cell's mid has {len(widths.mid)} values; expected none, or one an operation of "
                    f"two convolutions, {genotype.doubles}"
                )
        if self.skip_reduction_input and any(len(s.cells) == 1 for s in self.stages[1:-1]):
            raise ConfigError("NASNetConfig.skip_reduction_input = True: stages between reductions need a normal cell")
        if self.aux and (len(self.stages) < 2 or self.aux_side() < 5):
            raise ConfigError(
                f"NASNetConfig.aux = True: the map before the last reduction has {self.aux_side()} pixels a side; "
                "expected a reduction, and at least 5"
            )

    def plan(self) -> list[tuple[Genotype, CellWidths, Layers, int]]:
        """(genotype, widths, layers, stride) of every cell in order."""
        plan = [(self.reduction, widths, self.layers, 2) for widths in self.stem_cells]
        for i, stage in enumerate(self.stages):
            for j, widths in enumerate(stage.cells):
                reduces = i > 0 and j == 0
                genotype = self.reduction if reduces else self.normal
                plan.append((genotype, widths, stage.layers or self.layers, 2 if reduces else 1))
        return plan

    def aux_side(self) -> int:
        """Pixels a side, at `resolution`, of the map that the auxiliary classifier reads."""
        side = (self.resolution - 1) // 2 if self.stem == "imagenet" else self.resolution
        for _ in range(len(self.stem_cells) + max(len(self.stages) - 2, 0)):
            side = (side + 1) // 2
        return side


class AuxHead(nn.Module):
    """Mean 5x5 stride 3, 1x1 to 128, a convolution of the whole map to 768, linear. Its loss has weight 0.4.

    The size of the whole map is that at config.resolution; what larger pictures give is averaged over positions.
    """

    def __init__(self, config: NASNetConfig, c_in: int):
        super().__init__()
        layers = config.layers
        self.conv1 = layers.make_conv(c_in, 128, 1)
        self.bn1 = layers.make_norm(128)
        self.act1 = layers.make_act(128)
        self.conv2 = layers.make_conv(128, 768, (config.aux_side() - 5) // 3 + 1, padding=0)
        self.bn2 = layers.make_norm(768)
        self.act2 = layers.make_act(768)
        self.fc = nn.Linear(768, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, c_in, H, W) -> (N, num_classes)
        x = F.avg_pool2d(x, 5, 3)
        x = self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


class NASNet(Network):
    """Stem convolution, stem cells, stages of cells, activation, mean over positions, dropout, linear classifier."""

    def __init__(self, config: NASNetConfig):
        super().__init__()
        layers, imagenet = config.layers, config.stem == "imagenet"
        stride, padding = (2, 0) if imagenet else (1, 1)
        self.conv0 = layers.make_conv(config.in_chans, config.stem_width, 3, stride=stride, padding=padding)
        self.bn0 = layers.make_norm(config.stem_width)

        plan, cells, aux_width = config.plan(), [], 0
        c_in = c_previous = config.stem_width
        ratio = 0  # size of the previous input against the cell's input; 0: there is none
        for i, (genotype, widths, slots, stride) in enumerate(plan):
            skipped = config.skip_reduction_input and stride == 2 and i >= len(config.stem_cells)
            drop = config.drop_path * (i + 1) / len(plan)
            place = Place(slots, config.padding, widths.filters, stride, drop, skipped, config.count_padding)
            cells.append(Cell(genotype, place, widths, c_in=c_in, c_previous=c_previous, ratio=ratio))
            aux_width = c_in if stride == 2 else aux_width
            c_in, c_previous = cells[-1].width, c_previous if skipped else c_in
            ratio = stride
        rest = iter(cells)
        self.stem_cells = nn.ModuleList(itertools.islice(rest, len(config.stem_cells)))
        self.stages = nn.ModuleList(nn.ModuleList(itertools.islice(rest, len(s.cells))) for s in config.stages)

        self.act = layers.make_act(c_in)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(c_in, config.num_classes)
        self.aux_head = AuxHead(config, aux_width) if config.aux else None
        self.num_features = c_in
        self.init_weights()

    def init_weights(self) -> None:
        """The official start: truncated normal of variance 2 / fan-out, k * k * c_out / groups, for all weights."""
        for m in self.modules():
            if type(m) is nn.Conv2d or type(m) is nn.Linear:
                fan_out = m.weight.shape[0] * m.weight[0, 0].numel()
                if isinstance(m, nn.Conv2d):
                    fan_out //= m.groups
                std = (2 * 1.3 / fan_out) ** 0.5  # 1.3: what cutting off beyond two deviations takes from the variance
                nn.init.trunc_normal_(m.weight, std=std, a=-2 * std, b=2 * std)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def set_progress(self, progress: float) -> None:
        """How much of the training is over, 0 to 1: ScheduledDropPath grows with it. The paper: every step."""
        set_progress(self, progress)

    def cells(self) -> list[Cell]:
        """All cells in order."""
        return [cell for group in (self.stem_cells, *self.stages) for cell in cast(Iterable[Cell], group)]

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The last map of every resolution, finest first: strides 2 to 32 with the ImageNet stem, 1, 2, 4 with CIFAR's.

        The last one is forward_features(x); no activation has seen those before it. The ImageNet stem has no padding:
        224 pixels give 111, 56, 28, 14, 7.
        """
        x = previous = self.bn0(self.conv0(x))
        maps = []
        for cell in self.cells():
            if cell.stride == 2:
                maps.append(x)
            y = cell(x, previous)
            x, previous = y, previous if cell.skipped else x
        return [*maps, self.act(x)]

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:  # (N, num_features, h, w) -> (N, num_classes)
        return self.fc(self.dropout(features.mean((2, 3))))

    def forward_aux(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(logits, auxiliary logits: one tensor with aux=True, else none)."""
        maps = self.feature_maps(x)
        aux = [] if self.aux_head is None else [self.aux_head(maps[-2])]
        return self.forward_head(maps[-1]), aux


def stack(n: int, penultimate: int) -> tuple[Stage, ...]:
    """The paper's N @ F: three stages of N normal cells, filters doubling at each reduction, F channels at the end."""
    filters = penultimate // 24  # six outputs, filters doubled twice
    rows = ((filters, n), (2 * filters, n + 1), (4 * filters, n + 1))
    return tuple(Stage((CellWidths(f),) * cells) for f, cells in rows)


def stem_cells(filters: int) -> tuple[CellWidths, ...]:
    """The two reduction cells of the ImageNet stem: a quarter and a half of the first stage's filters."""
    return (CellWidths(filters // 4), CellWidths(filters // 2))


def write_widths(config: NASNetConfig) -> NASNetConfig:
    """One inner width an operation of two convolutions."""
    plan = iter(config.plan())

    def cells(given: tuple[CellWidths, ...]) -> tuple[CellWidths, ...]:
        return tuple(replace(w, mid=w.mid or (w.filters,) * next(plan)[0].doubles) for w in given)

    stem = cells(config.stem_cells)
    return replace(config, stem_cells=stem, stages=tuple(replace(s, cells=cells(s.cells)) for s in config.stages))


_TIMM = (
    (r"^conv0\.conv\.", "conv0."),
    (r"^conv0\.bn\.", "bn0."),
    (r"^last_linear\.", "fc."),
    (r"^cell_stem_(\d)\.", r"stem_cells.\1."),
    (r"\.conv_1x1\.", ".current."),
    (r"\.conv_prev_1x1\.", ".previous."),
    (r"\.path_(\d)\.conv\.", r".previous.conv\1."),
    (r"\.final_path_bn\.", ".previous.bn."),
    (r"\.comb_iter_(\d)_(left|right)\.", r".blocks.\1.\2."),
    (r"\.separable_(\d)\.depthwise_conv2d\.", r".dw\1."),
    (r"\.separable_(\d)\.pointwise_conv2d\.", r".pw\1."),
    (r"\.bn_sep_(\d)\.", r".bn\1."),
)
_PYTORCHCV = (
    (r"^features\.init_block\.conv\.", "conv0."),
    (r"^features\.init_block\.bn\.", "bn0."),
    (r"^output\.fc\.", "fc."),
    (r"\.conv(\d)\.conv\.dw_conv\.", r".dw\1."),
    (r"\.conv(\d)\.conv\.pw_conv\.", r".pw\1."),
    (r"(\.comb\d_\w+)\.conv(\d)\.bn\.", r"\1.bn\2."),
    (r"\.conv1x1\.", ".current."),
    (r"\.conv1x1_prev\.", ".previous."),
    (r"\.path\.path(\d)\.conv\.", r".previous.conv\1."),
    (r"\.path\.bn\.", ".previous.bn."),
    (r"\.comb(\d)_(left|right)\.", r".blocks.\1.\2."),
)


def from_timm(key: str) -> str:
    """timm's key of nasnetalarge, which has six normal cells a stage -> ours."""
    if found := re.match(r"(reduction_)?cell_(\d+)\.", key):
        number = int(found[2])
        stage, cell = (number + 1, 0) if found[1] else (number // 6, number % 6 + (number >= 6))
        key = f"stages.{stage}.{cell}.{key[found.end() :]}"
    return rename(key, _TIMM)


def from_pytorchcv(key: str) -> str:
    """pytorchcv's key of nasnet_4a1056 and nasnet_6a4032 -> ours."""
    if found := re.match(r"features\.stage(\d)\.unit(\d+)\.", key):
        key = f"stages.{int(found[1]) - 1}.{int(found[2]) - 1}.{key[found.end() :]}"
    elif found := re.match(r"features\.stem(\d)_unit\.", key):
        key = f"stem_cells.{int(found[1]) - 1}.{key[found.end() :]}"
    return rename(key, _PYTORCHCV)


VARIANTS = {
    # The CIFAR form is TF-Slim's, which nobody else has: a stem of 3 x 32 channels and no stem cells, eps 1e-5 and fast
    # statistics, no dropout. Its first cell has no previous input: state 1 is the stem's output, 96 channels, unchanged
    "nasnet_cifar": NASNetConfig(
        stack(6, 768),
        stem="cifar",
        stem_width=96,
        dropout=0.0,
        drop_path=0.4,
        layers=Layers(),
        num_classes=10,
        resolution=32,
    ),
    "nasnet_mobile": NASNetConfig(stack(4, 1056), stem_cells=stem_cells(44)),
    "nasnet_large": NASNetConfig(
        stack(6, 4032),
        stem_width=96,
        stem_cells=stem_cells(168),
        skip_reduction_input=True,
        drop_path=0.3,
        resolution=331,
    ),
}

_TITLE, _ARXIV = "Learning Transferable Architectures for Scalable Image Recognition", "1707.07012"
PUBLISHED = {
    "nasnet_cifar": Published(_TITLE, _ARXIV, 96.59, "paper, without cutout", resize=32, resolution=32),
    "nasnet_mobile": Published(
        _TITLE, _ARXIV, 74.0, "official README", "TF-Slim nasnet-a_mobile_04_10_2017", mean=HALF, std=HALF
    ),
    "nasnet_large": Published(
        _TITLE, _ARXIV, 82.7, "official README", "timm nasnetalarge.tf_in1k", 363, 331, "bicubic", HALF, HALF
    ),
}

TINY = NASNetConfig(
    (Stage((CellWidths(4),)), Stage((CellWidths(4), CellWidths(8)))),
    stem="cifar",
    stem_width=8,
)

FAMILY = Family(
    NASNetConfig,
    NASNet,
    VARIANTS,
    ("fc.", "aux_head.fc."),
    {"timm": from_timm, "pytorchcv": from_pytorchcv},
    PUBLISHED,
    auxiliary=("aux_head.",),
    aux_weight=0.4,
    tiny=TINY,
    ragged=True,
    small="nasnet_mobile",
    explicit=write_widths,
    cost_per_mac=1.6,
)
