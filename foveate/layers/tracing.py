"""What lets torch.fx trace networks whose steps depend on sizes: a call of such a step is one node of the graph."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.fx import Proxy
from torch.overrides import handle_torch_function, has_torch_function

F = TypeVar("F", bound=Callable[..., Any])


def whole(function: F) -> F:
    """The function, of tensors and numbers by position, which a tracer writes down as one call and does not enter."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return handle_torch_function(call, args, *args) if has_torch_function(args) else function(*args)

    return cast(F, call)


def is_traced(value: object) -> bool:
    """Whether a tensor or size is torch.fx's stand-in for one, of which nothing is known yet."""
    return isinstance(value, Proxy)


@whole
def larger(a: int, b: int) -> int:
    """max(a, b) of sizes, which may be symbols of torch.export; torch.jit.trace fixes them."""
    found: Any = torch.sym_max(*(int(n) if isinstance(n, torch.Tensor) else n for n in (a, b)))
    return found


@whole
def smaller(a: int, b: int) -> int:
    """min(a, b) of sizes, as larger."""
    found: Any = torch.sym_min(*(int(n) if isinstance(n, torch.Tensor) else n for n in (a, b)))
    return found
