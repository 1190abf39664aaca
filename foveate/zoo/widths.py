"""Arithmetic of widths and depths that the families' scaling rules share."""

from collections.abc import Sequence


def round_width(width: float) -> int:
    """The nearest multiple of 8, at least 8, and never below 90 % of the exact value."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


def scale_width(width: float, factor: float, multiple: int = 0) -> int:
    """factor * width as the nearest multiple, at least one; multiple 0: of 8, below 64 channels of 4."""
    step = multiple or (8 if width >= 64 else 4)
    return max(1, round(factor * width / step)) * step if factor != 1.0 else int(width)


def repeat_last(mid: Sequence[int], depth: float) -> tuple[int, ...]:
    """The inner widths of a stage of depth times as many layers: the last one is repeated, or the last ones go."""
    layers = max(1, round(depth * len(mid)))
    return (*mid, *[mid[-1]] * layers)[:layers]
