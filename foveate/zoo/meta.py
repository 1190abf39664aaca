"""Networks on the meta device: shapes and kinds without memory, and without values."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import BaseTorchFunctionMode

# What draws values: on the meta device it does nothing but import torch._dynamo, 3 seconds.
DRAWS = {Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.kaiming_uniform_}


class _NoDraws(BaseTorchFunctionMode):
    """Draws leave tensors on the meta device alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWS and (tensor := args[0] if args else kwargs["tensor"]).is_meta:
            return tensor
        return super().__torch_function__(func, types, args, kwargs)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """A context in which modules are made on the meta device and nothing is drawn for them."""
    with torch.device("meta"), _NoDraws():
        yield
