"""How strides shrink for small pictures, alike in all spaces."""

from collections.abc import Sequence

LEAST_SIDE = 4  # pixels a side that the last map keeps


def fitted(strides: Sequence[int], resolution: int) -> tuple[int, ...]:
    """The strides with 1 in place of the first ones, until the last map has 4 pixels a side (of strides over 1).

    A net for 224 pixels halves them five times; 32 pixels bear three halvings, 64 four. The first ones go, as in the
    CIFAR forms of published nets, so that all stages work on maps that still have a size.
    fitted((2, 1, 2, 2, 2, 1, 2, 1), 32) -> (1, 1, 1, 2, 2, 1, 2, 1).
    """
    out, total = [], 1
    for stride in reversed(strides):
        keeps = stride > 1 and total * stride * LEAST_SIDE <= resolution
        out.append(stride if keeps else 1)
        total *= out[-1]
    return tuple(reversed(out))


def fitted_behind(stem: int, strides: Sequence[int], resolution: int) -> tuple[int, ...]:
    """The strides of the stages behind a stem whose stride is fixed."""
    return fitted(strides, -(-resolution // stem))
