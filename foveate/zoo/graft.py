"""graft: other layers into models that are not ours (timm, torchvision, any nn.Module), and a report of what it costs.

The last resort. A network of the zoo gets its layers from its config, before its weights are drawn; a graft comes after
that, knows modules only by their type, and its result is described by no config.
"""

import copy
import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from foveate.config import near, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.conv import Pair, safeguard
from foveate.zoo import FAMILIES
from foveate.zoo.meta import shapes_only

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Mish,
    nn.Softplus,
    nn.Tanh,
)
TIMM_ACTIVATIONS = "timm.layers.activations"  # its own classes stand here and in ..._me
GATES = {"Sigmoid", "Hardsigmoid", "HardSigmoid", "HardSigmoidMe"}  # what squeeze and excitation multiplies by
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
FUNCTIONS = {"relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "silu", "gelu", "hardswish", "mish"}
NOUNS = {"norm": "norms", "act": "activations", "conv": "convolutions"}


@dataclass(frozen=True)
class Change:
    """One module that was replaced."""

    name: str  # as in model.named_modules()
    slot: str  # norm, act or conv
    before: str  # the class that stood there
    after: str  # the one that stands there now
    kept: tuple[str, ...]  # tensors that the new module took over
    lost: tuple[str, ...]  # tensors that are gone, and constants that are no longer the same
    new: tuple[str, ...]  # tensors that start afresh

    def __str__(self) -> str:
        parts = [f"{word} {', '.join(what)}" for word in ("kept", "lost", "new") if (what := getattr(self, word))]
        return "; ".join((f"{self.name or '(the model)'}: {self.before} -> {self.after}", *parts))


@dataclass(frozen=True)
class Report:
    """What a graft did, module by module. print(report) shows all of it."""

    replaced: tuple[Change, ...]  # in the order of the model
    left: Mapping[str, str]  # name of a module of an asked-for slot that was left alone -> why
    functions: tuple[str, ...] | None  # activations called as functions stay; None: without an example none was found

    def __str__(self) -> str:
        lines = [f"replaced: {len(self.replaced)}", *(f"  {change}" for change in self.replaced)]
        lines += [f"left alone: {len(self.left)}", *(f"  {name}: {why}" for name, why in self.left.items())]
        if self.functions is None:
            return "\n".join((*lines, "activations called as functions: not looked for, give an example for that"))
        calls = (f"  {call}" for call in self.functions)
        return "\n".join((*lines, f"activations called as functions: {len(self.functions)}", *calls))


def graft(
    model: nn.Module, rules: Mapping[str, str], *, only: str = "*", example: torch.Tensor | None = None
) -> tuple[nn.Module, Report]:
    """A copy of the model with other norms, activations and convolutions; what was replaced, left alone and lost.

        model = timm.create_model("resnet18", pretrained=True)
        grafted, report = graft(model, {"norm": "group_norm(groups=16)", "conv": "ws_conv"}, only="layer*")
        print(report)

    rules: slot (norm, act, conv) -> a name or call as in Layers. only: a shell pattern of module names; * stands for
    dots too. example: a batch as the model takes it. It goes once through a copy in evaluation mode, for two things
    that the modules do not tell: which activations are called as functions, which no graft can replace, and the widths
    that an activation with parameters (prelu) needs, read from axis 1.

    norm: nn.BatchNorm2d, and timm's BatchNormAct2d, which becomes Sequential(norm, act) (its keys get ".norm").
    act: the activations of torch.nn and timm; not the sigmoids of gates. conv: nn.Conv2d itself, with one stride for
    both axes, no dilation, and zeros alike on both sides. Subclasses have rules of their own and are left alone.

    Parameters of equal name and shape are taken over as objects, so ties and requires_grad stay. That holds for
    gains too: zero-initialised ones stay zero, and a start that the new layer has (bn_small_init) is overruled. Running
    statistics go from batch norm to batch norm only. eps and momentum are those of the rule, not of the old module.
    What is taken over need not mean the same: ws_conv standardises the weight. Train the result.
    Nothing in the copy works in place, for what stands before an activation may now need its output, or be its input.

    ConfigError: an unknown slot or layer; attention, for which a foreign model has no place; a slot for which nothing
    could be replaced; a network of the zoo, whose config is to be edited.
    """
    _refuse_ours(model, rules)
    layers = _layers(rules)
    widths, functions = _watch(model, example) if "act" in rules and example is not None else ({}, None)
    grafted = copy.deepcopy(model)
    places = list(_places(grafted))
    chosen = [place for place in places if fnmatch.fnmatchcase(place[0], only)]
    if not chosen:
        raise ConfigError(f'graft(only="{only}"): no module has such a name; {near(only, [p[0] for p in places])}')
    replaced: list[Change] = []
    left: dict[str, str] = {}
    done: dict[int, tuple[nn.Module, Change]] = {}  # by the id of the old module: one module may have several names
    like = next(_tensors(grafted), torch.empty(0))
    for name, parent, key, old in reversed(chosen):  # children first: the activation within a BatchNormAct2d
        slot = _slot(old)
        if slot not in rules:
            continue
        if id(old) not in done:
            seen = {parent.num_features} if _fused(parent) else widths.get(name, set())
            try:
                new = _made(layers, slot, old, next(_tensors(old), like), seen)
            except ConfigError as error:
                left[name] = str(error)
                continue
            done[id(old)] = _taken_over(slot, old, new)
        new, change = done[id(old)]
        replaced.append(dataclasses.replace(change, name=name))
        if parent is None:
            grafted = new
        else:
            setattr(parent, key, new)
    for slot in rules:
        if not any(change.slot == slot for change in replaced):
            reasons = [f"{n} is {why}" for n, why in left.items() if _slot(model.get_submodule(n)) == slot]
            calls = [f"{call} as a function" for call in functions or () if slot == "act"]
            why = (reasons[::-1] + calls + ["the model has none as modules"])[0]
            raise ConfigError(f'graft(only="{only}"): no {NOUNS[slot]} that can be replaced: {why}')
    for module in grafted.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]  # every module that has one has a bool
    safeguard(grafted)
    return grafted, Report(tuple(reversed(replaced)), dict(reversed(left.items())), functions)


def _refuse_ours(model: nn.Module, rules: Mapping[str, str]) -> None:
    for name, module in model.named_modules():
        config = getattr(module, "config", None)
        family = FAMILIES.get(str(getattr(config, "family", "")))
        if family is not None and isinstance(config, family.config):
            old = f"model.{name}.config" if name else "model.config"
            slots = ", ".join(f'{slot}="{call}"' for slot, call in rules.items())
            raise ConfigError(
                f"graft is for models that are not of the zoo; this {config.family} is: "
                f"build(replace({old}, layers=replace({old}.layers, {slots})))"
            )


def _layers(rules: Mapping[str, str]) -> Layers:
    """The rules as a record, every maker called once so that wrong options are heard of before anything is copied."""
    if "attn" in rules:
        raise ConfigError("graft: a foreign model has no place for attn; slots are norm, act, conv")
    if not rules:
        raise ConfigError('graft: no rule given; expected slots norm, act, conv: {"norm": "group_norm(groups=16)"}')
    layers = replace(Layers(), **rules)
    with shapes_only():
        layers.make_norm(64)
        layers.make_act(64)
        layers.make_conv(64, 64, 3)
    return layers


def _places(model: nn.Module) -> Iterator[tuple[str, Any, str, nn.Module]]:
    """(name, parent, key in the parent, module) of every module under each of its names, parents first."""
    for name, module in model.named_modules(remove_duplicate=False):
        above, _, key = name.rpartition(".")
        yield name, model.get_submodule(above) if name else None, key, module


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Floating-point tensors of a module: a new module goes where they are."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            yield tensor


def _fused(module: nn.Module | None) -> bool:
    """Whether this is timm's batch norm with dropout and activation in it."""
    return isinstance(module, nn.BatchNorm2d) and type(module).__name__ == "BatchNormAct2d"


def _slot(module: nn.Module) -> str:
    """norm, act, conv, or "" for a module that is none of them, of any class, whether it can be replaced or not."""
    kind = type(module)
    if isinstance(module, _ConvNd):
        return "conv"
    if isinstance(module, NORMS) or ("Norm" in kind.__name__ and (module._parameters or module._buffers)):
        return "norm"
    theirs = kind.__module__.startswith(TIMM_ACTIVATIONS)
    return "act" if theirs or kind.__name__ in GATES or isinstance(module, ACTIVATIONS) else ""


def _made(layers: Layers, slot: str, old: nn.Module, like: torch.Tensor, widths: set[int]) -> nn.Module:
    """The module of the house for the place of old; ConfigError says why there can be none."""
    kind = type(old).__name__
    if old._forward_hooks or old._forward_pre_hooks or old._backward_hooks or old._backward_pre_hooks:
        raise ConfigError(f"a {kind} with hooks, which would be lost")
    with like.device:
        if slot == "conv":
            new = _conv(layers, old)
        elif slot == "norm":
            if not (type(old) is nn.BatchNorm2d or _fused(old)):
                raise ConfigError(f"a {kind}; only BatchNorm2d is replaced")
            new = layers.make_norm(old.num_features)  # type: ignore[arg-type]  # an int
        else:
            new = _act(layers, old, widths)
    return new.to(like.dtype).train(old.training)


def _conv(layers: Layers, old: nn.Module) -> nn.Module:
    kind = type(old).__name__
    if type(old) is not nn.Conv2d:
        raise ConfigError(f"a {kind}; only Conv2d itself is replaced")
    if old.dilation != (1, 1):
        raise ConfigError(f"a {kind} with dilation {old.dilation}; only 1 fits")
    if old.stride[0] != old.stride[1]:
        raise ConfigError(f"a {kind} with stride {old.stride}; only one for both axes fits")
    if old.padding_mode != "zeros":
        raise ConfigError(f"a {kind} padded by {old.padding_mode}; only zeros fit")
    if old.padding == "same" and any(k % 2 == 0 for k in old.kernel_size):
        raise ConfigError(f"a {kind} with an even kernel and padding same; only padding alike on both sides fits")
    (high, wide), padding = old.kernel_size, old.padding
    if isinstance(padding, str):
        padding = (high // 2, wide // 2) if padding == "same" else (0, 0)
    pads: Pair = padding if padding[0] != padding[1] else padding[0]  # type: ignore[assignment]  # two numbers
    kernel: Pair = high if high == wide else (high, wide)
    return layers.make_conv(
        old.in_channels,
        old.out_channels,
        kernel,
        stride=old.stride[0],
        padding=pads,
        groups=old.groups,
        bias=old.bias is not None,
    )


def _act(layers: Layers, old: nn.Module, widths: set[int]) -> nn.Module:
    kind = type(old)
    if kind.__name__ in GATES:
        raise ConfigError(f"a {kind.__name__}, which is a gate")
    if kind not in ACTIVATIONS and not kind.__module__.startswith(TIMM_ACTIVATIONS):
        raise ConfigError(f"a {kind.__name__}, which is not an activation of torch.nn or timm")
    with shapes_only():
        shapes = [[t.shape for t in layers.make_act(c).state_dict().values()] for c in (64, 96)]
    if shapes[0] == shapes[1]:
        return layers.make_act(1)  # the number of channels does not matter to it
    if len(widths) != 1 or 0 in widths:
        met = f"met {len(widths)} widths" if widths else "no example has shown them"
        raise ConfigError(f'a {kind.__name__}; "{layers.act}" needs the number of channels: {met}')
    return layers.make_act(*widths)


def _taken_over(slot: str, old: nn.Module, new: nn.Module) -> tuple[nn.Module, Change]:
    """new with the tensors of old that fit, and what became of them; the rest of a BatchNormAct2d behind it."""
    has: dict[str, torch.Tensor] = {
        **dict(old.named_parameters(recurse=False)),
        **dict(old.named_buffers(recurse=False)),
    }
    wants: dict[str, torch.Tensor] = dict(new.named_parameters(recurse=False))
    if isinstance(new, nn.BatchNorm2d):  # other norms may give the same names to other statistics
        wants.update(new.named_buffers(recurse=False))
    kept = tuple(n for n, tensor in has.items() if n in wants and wants[n].shape == tensor.shape)
    for n in kept:
        setattr(new, n, has[n])
    lost = [n for n in has if n not in kept]
    for constant in ("eps", "momentum") if slot == "norm" else ():
        was, now = getattr(old, constant), getattr(new, constant, None)
        if now is not None and was != now:
            lost.append(f"{constant} {was} (now {now})")
    fresh = tuple(n for n in new.state_dict() if n not in kept)
    if slot == "norm" and _fused(old):
        behind = {n: m for n in ("drop", "act") if not isinstance(m := old.get_submodule(n), nn.Identity)}
        if behind:
            parts = nn.Sequential()
            for n, module in ({"norm": new} | behind).items():
                parts.add_module(n, module)
            new = parts
    after = ", ".join(type(m).__name__ for m in new.children())
    after = f"Sequential({after})" if type(new) is nn.Sequential else type(new).__name__
    return new, Change("", slot, type(old).__name__, after, kept, tuple(lost), fresh)


class _Calls(TorchFunctionMode):
    """Notes which module calls an activation as a function. `inside`: the modules that run, innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[tuple[str, nn.Module]] = []
        self.found: dict[str, None] = {}  # ordered

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        called = getattr(func, "__name__", "").rstrip("_")
        if called in FUNCTIONS and self.inside and _slot(self.inside[-1][1]) != "act":
            self.found[f"{self.inside[-1][0] or '(the model)'} calls {called}"] = None
        return func(*args, **(kwargs or {}))


def _watch(model: nn.Module, example: torch.Tensor) -> tuple[dict[str, set[int]], tuple[str, ...]]:
    """Widths met by each activation, under each of its names (0: neither vectors nor maps); calls of functions."""
    twin = copy.deepcopy(model).eval()
    calls = _Calls()
    widths: dict[int, set[int]] = {}

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        calls.inside.append((name, module))
        if _slot(module) == "act" and args:
            met = args[0].shape[1] if args[0].ndim in (2, 4) else 0
            widths.setdefault(id(module), set()).add(met)

    for name, module in twin.named_modules():
        module.register_forward_pre_hook(lambda m, args, name=name: enter(name, m, args))
        module.register_forward_hook(lambda m, args, y: calls.inside.pop() and None)
    with torch.no_grad(), calls:
        twin(example)
    names = twin.named_modules(remove_duplicate=False)
    return {name: widths[id(m)] for name, m in names if id(m) in widths}, tuple(calls.found)
