"""What each layer does to labels of channels: the rules of foveate.compress.labels, a line a layer in RULES."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from foveate.compress.labels import Rule, Trace, Tracer, as_map, attach, labels_of, spread
from foveate.errors import FoveateError
from foveate.layers.cbam import CBAM
from foveate.layers.conv_norm import ConvNorm
from foveate.layers.coord import CoordAttention
from foveate.layers.drop import DropPath, ScheduledDropPath
from foveate.layers.eca import ECA
from foveate.layers.gconv import GConv
from foveate.layers.gn_plus import GNPlus
from foveate.layers.invariant_norm import InvariantConv2d, InvariantNorm
from foveate.layers.iter_norm import IterNorm
from foveate.layers.mgic import Smoother
from foveate.layers.non_local import NonLocal
from foveate.layers.norm import LayerNorm
from foveate.layers.ws_conv import WSConv2d
from foveate.zoo.families.googlenet.blocks import Auxiliary
from foveate.zoo.families.inception.blocks import AuxHead
from foveate.zoo.families.mobilenet.blocks import LayerScale, MultiQuery


def trace(model: nn.Module, in_chans: int, follows: Sequence[str] = (), fixed: Sequence[int | None] = ()) -> Trace:
    """Run a network of the meta device on labels; it is spoilt for anything else. follows, fixed: see Tracer."""
    tracer = Tracer(follows, fixed)
    for name, module in model.named_modules():
        rule = rule_of(module)
        if rule is not None:
            attach(tracer, module, name, rule)
    picture = tracer.fresh(in_chans)
    tracer.keep(picture, "the channels of the picture stay")
    run: Any = getattr(model, "forward_aux", model)  # with the auxiliary classifiers, where a family has them
    with torch.no_grad(), tracer:
        run(as_map(picture))
    return tracer.trace()


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a layer; None for a block, whose own forward runs on labels."""
    return next((rule for kind, rule in RULES if isinstance(module, kind)), None)


def convolution(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    """Fresh labels for the outputs. Where whole groups go, the outputs of a group belong to its inputs."""
    labels, groups, c_out = labels_of(x), conv.groups, conv.out_channels
    if len(labels) != conv.in_channels:
        raise FoveateError(f"compress: {name} takes {conv.in_channels} channels, {len(labels)} came; report this")
    if name in tracer.follows:
        size, out = len(labels) // groups, []
        for g in range(groups):
            tracer.join(labels[g * size : (g + 1) * size])
            out += [labels[g * size]] * (c_out // groups)
    else:
        tracer.record(f"{name}.weight", 1, labels, groups)
        out = tracer.fresh(c_out)
    out = tracer.record(f"{name}.weight", 0, out)
    if conv.bias is not None:
        tracer.record(f"{name}.bias", 0, out)
    return as_map(out)


def standardised(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    y = convolution(tracer, name, conv, x)
    tracer.record(f"{name}.gain", 0, labels_of(y))
    return y


def in_fourier(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    y = convolution(tracer, name, conv, x)
    for key, _ in conv.affine.named_parameters():
        tracer.record(f"{name}.affine.{key}", 0, labels_of(y))
    return y


def smoother(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    return x + convolution(tracer, name, conv, x)


def generated(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """Candidates lie one behind the other along the outputs of the weight."""
    labels, conv = labels_of(x), module.kernels
    tracer.record(f"{name}.scores.weight", 1, labels)
    if conv.groups > 1:
        tracer.keep(labels, "a gconv in groups holds its candidates group by group")
    tracer.record(f"{name}.kernels.weight", 1, labels, conv.groups)
    out = tracer.fresh(conv.out_channels // conv.candidates)
    tracer.record(f"{name}.kernels.weight", 0, out * conv.candidates)
    if conv.groups > 1:
        tracer.keep(out, "a gconv in groups holds its candidates group by group")
    if module.bias is not None:
        tracer.record(f"{name}.bias", 0, out)
    return as_map(out)


def linear(tracer: Tracer, name: str, layer: Any, x: torch.Tensor) -> torch.Tensor:
    tracer.record(f"{name}.weight", 1, labels_of(x))
    out = tracer.record(f"{name}.weight", 0, tracer.fresh(layer.out_features))
    if layer.bias is not None:
        tracer.record(f"{name}.bias", 0, out)
    return as_map(out).flatten(1)


def per_channel(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """A layer with one number a channel in each of its tensors: batch norm, PReLU, layer scale."""
    labels = labels_of(x)
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.ndim == 1 and tensor.shape[0] == len(labels):
            tracer.record(f"{name}.{key}", 0, labels)
    return x


def in_blocks(size_of: Callable[[Any], int], what: str) -> Rule:
    """A norm whose statistics are of `size_of` channels together: these go together, or stay."""

    def rule(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
        labels, size = labels_of(x), size_of(module)
        if size == len(labels) > 1:
            tracer.keep(labels, f"{what} takes its statistics over all {size} channels")
        for start in range(0, len(labels), size):
            tracer.join(labels[start : start + size])
        if isinstance(getattr(module, "running_whitening", None), torch.Tensor):
            tracer.record(f"{name}.running_whitening", 0, labels[::size])
        return per_channel(tracer, name, module, x)

    return rule


def refused(reason: str) -> Rule:
    """A layer in which every channel has its place."""

    def rule(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
        tracer.keep(labels_of(x), reason)
        return x

    return rule


def whitened(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    tracer.keep(labels_of(x), "invariant_conv divides by a mean over all channels")
    return convolution(tracer, name, conv, x)


def invariant(tracer: Tracer, name: str, norm: Any, x: torch.Tensor) -> torch.Tensor:
    if not isinstance(norm.scale, nn.Identity):
        tracer.keep(labels_of(x), "invariant_norm divides by a mean over all channels")
    return in_blocks(lambda m: m.size, "invariant_norm")(tracer, name, norm, x)


def non_local(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    if module.position:
        tracer.keep(labels_of(x), "the position code of a non-local block depends on the number of channels")
    inner = module.query(x) + module.key(x) + module.value(x)  # one channel of all three stands for one of the block
    labels = labels_of(inner)
    for i in range(size := len(labels) // module.heads):  # heads stay equally wide
        tracer.join(labels[i::size])
    return x + module.norm(module.out(inner))


def by_rows(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    inner = module.act(module.bn1(module.conv1(x)))
    return x * module.conv_h(inner) * module.conv_w(inner)


def second_head(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    return module.fc(module.conv1(module.conv0(x)).flatten(1))  # its forward refuses maps as small as these


def first_head(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    x = spread(module.conv(x), module.pool.output_size).flatten(1)  # labels grow late: convolutions give 1x1
    return module.fc2(module.fc1(x))


def multi_query(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    query = module.query(x)
    tracer.keep((*labels_of(query), *labels_of(module.key(x)), *labels_of(module.value(x))), "heads stay whole")
    return module.output(query)


def unchanged(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    return x


def to_grid(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    return spread(x, module.output_size)


ACTS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.ELU, nn.SELU, nn.Sigmoid)
PASSING = (*ACTS, nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, DropPath, ScheduledDropPath)

RULES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Rule], ...] = (  # the first that fits
    (PASSING, unchanged),
    (nn.AdaptiveAvgPool2d, to_grid),
    (WSConv2d, standardised),
    (ConvNorm, in_fourier),
    (InvariantConv2d, whitened),
    (Smoother, smoother),
    (nn.Conv2d, convolution),
    (nn.Linear, linear),
    (GConv, generated),
    (nn.GroupNorm, in_blocks(lambda m: m.num_channels // m.num_groups, "group_norm")),
    (GNPlus, in_blocks(lambda m: len(m.weight) // m.groups, "gn_plus")),
    (IterNorm, in_blocks(lambda m: m.size, "iter_norm")),
    (InvariantNorm, invariant),
    ((LayerNorm, nn.LayerNorm), in_blocks(lambda m: m.normalized_shape[0], "layer_norm")),
    ((nn.BatchNorm2d, nn.PReLU, LayerScale), per_channel),
    (NonLocal, non_local),
    (CoordAttention, by_rows),
    (MultiQuery, multi_query),
    (Auxiliary, first_head),
    (AuxHead, second_head),
    (ECA, refused("eca convolves over neighbouring channels")),
    (CBAM, refused("cbam reads the mean and the maximum over all channels")),
    (nn.LocalResponseNorm, refused("local response norm reads neighbouring channels")),
)
