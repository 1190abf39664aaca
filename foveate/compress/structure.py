"""What of a network may not change when its widths do: the kinds of its layers, and what they do to a channel."""

from collections.abc import Mapping

from torch import nn

from foveate.layers.traits import traits_of

Structure = Mapping[str, tuple[str, str]]  # name of a module -> its kind, and its nature in words


def structure(model: nn.Module, follows: frozenset[str]) -> Structure:
    """Every module's kind and nature. follows: convolutions whose number of groups grows with the width."""
    return {name: (type(m).__name__, nature(m, name in follows)) for name, m in model.named_modules()}


def other_structure(old: Structure, new: Structure) -> str | None:
    """The first layer that is not of the same kind in both networks, in words; None where all are."""
    for name, (kind, was) in old.items():
        other, now = new.get(name, ("no layer", ""))
        if other != kind:
            return f"{name} would be {other} instead of {kind}"
        if was != now:
            return f"{name} ({kind}) would have {now} instead of {was}"
    more = next((name for name in new if name not in old), None)
    return None if more is None else f"{more} ({new[more][0]}) would come in"


def nature(module: nn.Module, follows: bool) -> str:
    """What of a layer must not change with the number of channels, for it changes what every channel means."""
    if isinstance(module, nn.Conv2d):
        parts = f"{module.in_channels // module.groups} inputs a group" if follows else f"{module.groups} groups"
        return f"a kernel of {module.kernel_size}, stride {module.stride}, dilation {module.dilation}, {parts}"
    traits = traits_of(module)
    if traits is not None and traits.kind == "norm":
        return f"{traits.together} channels a group"
    return "" if traits is None else traits.nature


def counts(model: nn.Module) -> bool:
    """Whether a layer's kind or nature may depend on its number of channels."""
    return any(traits.counting for m in model.modules() if (traits := traits_of(m)) is not None)
