"""What layers do to labels of channels (foveate.compress.labels): a line in RULES for a layer with a rule of its own.

A rule takes (tracer, name of the module, module, labels of its input as a map) and gives the labels of its output; it
notes what stands along the axes of the module's tensors. Norms, gates that let no channel go and further tensors of
subclasses of nn.Conv2d need no line: what they declare (foveate.layers.traits) and the shapes of their tensors say all.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from foveate.compress.labels import Rule, Trace, Tracer, as_map, attach, labels_of, spread
from foveate.errors import FoveateError
from foveate.layers.coord import CoordAttention
from foveate.layers.drop import DropPath, ScheduledDropPath
from foveate.layers.gconv import GConv
from foveate.layers.mgic import Smoother
from foveate.layers.non_local import NonLocal
from foveate.layers.traits import traits_of
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
    rule = next((rule for kind, rule in RULES if isinstance(module, kind)), None)
    traits = traits_of(module)
    if traits is None:
        return rule
    if rule is None and traits.kind == "norm":
        rule = norm
    return kept(traits.fixed, rule or unchanged) if traits.fixed else rule


def kept(reason: str, rule: Rule) -> Rule:
    """A rule for a layer in which every channel has its place: all that it reads stay, for this reason."""

    def keep_first(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
        tracer.keep(labels_of(x), reason)
        return rule(tracer, name, module, x)

    return keep_first


def convolution(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    """nn.Conv2d and its subclasses: fresh labels for the outputs. Where whole groups go (tracer.follows), the outputs
    of a group belong to its inputs. Every tensor but the weight has the outputs along its first axis (biases, the gains
    of ws_conv, what conv_norm has behind it).
    """
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
    for key, _ in conv.named_parameters():
        if key != "weight":
            tracer.record(f"{name}.{key}", 0, out)
    return as_map(out)


def smoother(tracer: Tracer, name: str, conv: Any, x: torch.Tensor) -> torch.Tensor:
    """A level of MGIC: x + conv(x), so that outputs and inputs are one class, channel by channel."""
    return x + convolution(tracer, name, conv, x)


def generated(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """GConv: fresh labels for the outputs. Candidates lie one behind the other along the outputs of the weight."""
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
    """nn.Linear: fresh labels for the outputs, as features (1, C)."""
    tracer.record(f"{name}.weight", 1, labels_of(x))
    out = tracer.record(f"{name}.weight", 0, tracer.fresh(layer.out_features))
    if layer.bias is not None:
        tracer.record(f"{name}.bias", 0, out)
    return as_map(out).flatten(1)


def per_channel(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """A layer with one number a channel in each of its tensors: norms, PReLU, layer scale. Labels pass."""
    labels = labels_of(x)
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.ndim == 1 and tensor.shape[0] == len(labels):
            tracer.record(f"{name}.{key}", 0, labels)
    return x


def norm(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """Any norm: channels that share statistics go together, or all stay where that are all. Its tensors have one number
    a channel, or one matrix a block of channels (running_whitening).
    """
    labels, traits = labels_of(x), traits_of(module)
    size = 1 if traits is None else traits.together
    if size == len(labels) > 1:
        tracer.keep(labels, f"{type(module).__name__} takes its statistics over all {size} channels")
    for start in range(0, len(labels), size) if size > 1 else ():
        tracer.join(labels[start : start + size])
    for key, tensor in module.named_buffers():
        if tensor.ndim > 1 and len(tensor) * size == len(labels):
            tracer.record(f"{name}.{key}", 0, labels[::size])
    return per_channel(tracer, name, module, x)


def non_local(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """x + norm(out(attention)): inputs and outputs are one class, channel by channel; inner channels at the same place
    of every head go together.
    """
    inner = module.query(x) + module.key(x) + module.value(x)  # one channel of all three stands for one of the block
    labels = labels_of(inner)
    for i in range(size := len(labels) // module.heads):  # heads stay equally wide
        tracer.join(labels[i::size])
    return x + module.norm(module.out(inner))


def by_rows(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """CoordAttention, whose forward moves rows beside columns: a squeeze of its own, then factors a channel."""
    inner = module.act(module.bn1(module.conv1(x)))
    return x * module.conv_h(inner) * module.conv_w(inner)


def second_head(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """Inception's auxiliary classifier without its pools, for its forward refuses maps as small as these."""
    return module.fc(module.conv1(module.conv0(x)).flatten(1))


def first_head(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """GoogLeNet's auxiliary classifier, spread to the size of its pool late, for convolutions give 1x1."""
    x = spread(module.conv(x), module.pool.output_size).flatten(1)
    return module.fc2(module.fc1(x))


def multi_query(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """MobileNetV4's attention: channels of queries, keys and values stay, those of its output are fresh."""
    query = module.query(x)
    tracer.keep((*labels_of(query), *labels_of(module.key(x)), *labels_of(module.value(x))), "heads stay whole")
    return module.output(query)


def unchanged(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """A function of each channel by itself: labels pass."""
    return x


def to_grid(tracer: Tracer, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
    """nn.AdaptiveAvgPool2d: a map of its output size, for a flattening behind it counts positions."""
    return spread(x, module.output_size)


ACTS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.ELU, nn.SELU, nn.Sigmoid)
PASSING = (*ACTS, nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, DropPath, ScheduledDropPath)

RULES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Rule], ...] = (  # the first that fits
    (PASSING, unchanged),
    (nn.AdaptiveAvgPool2d, to_grid),
    (Smoother, smoother),
    (nn.Conv2d, convolution),
    (nn.Linear, linear),
    (GConv, generated),
    ((nn.PReLU, LayerScale), per_channel),
    (NonLocal, non_local),
    (CoordAttention, by_rows),
    (MultiQuery, multi_query),
    (Auxiliary, first_head),
    (AuxHead, second_head),
)
