"""Which norm reads what a convolution puts out, and what size of map it takes: found by one run, not by the order in
which layers were registered (that pairs wrongly in pre-activation networks and wherever a norm was made first).
"""

import copy
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

BARE = {"__get__", "size", "dim"}  # ask for the shape of a tensor, not for its values


@dataclass(frozen=True)
class Site:
    """One convolution as the network uses it."""

    norm: str | None  # the batch norm that alone reads its output; None: there is none, or others read it too
    shape: tuple[int, int, int, int]  # of its input, a batch of 1
    runs: int  # how often it runs for one picture


def sites(model: nn.Module, in_chans: int, resolution: int) -> dict[str, Site]:
    """Name -> Site of every nn.Conv2d that runs, in the order of the forward pass. The model stays as it is."""
    twin = copy.deepcopy(model).to("meta", torch.float32).eval()
    flow = _Flow(twin)
    with torch.no_grad():
        flow.run(torch.empty(1, in_chans, resolution, resolution, device="meta"))
    found = {}
    for conv, shape in flow.shapes.items():
        (reader, *others) = flow.readers[conv] or {conv}
        alone = not others and type(reader) is nn.BatchNorm2d and flow.runs[conv] == flow.runs[reader] == 1
        found[flow.names[conv]] = Site(flow.names[reader] if alone else None, shape, flow.runs[conv])
    return found


class _Flow(TorchFunctionMode):
    """Which modules read the outputs of convolutions, in one run of a network."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.runs: Counter[nn.Module] = Counter()
        self.shapes: dict[nn.Module, tuple[int, int, int, int]] = {}
        self.readers: defaultdict[nn.Module, set[nn.Module]] = defaultdict(set)
        self.makers: dict[int, nn.Module] = {}  # by the id of the output
        self.outputs: list[torch.Tensor] = []  # held, so that no id comes twice
        self.inside: list[nn.Module] = []  # the modules that run, outermost first

    def run(self, x: torch.Tensor) -> None:
        """One forward pass; the model is spoilt by hooks."""
        for module in self.names:
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)
        with self:
            self.model(x)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.inside.append(module)
        self.runs[module] += 1
        if isinstance(module, nn.Conv2d):
            n, c, h, w = (int(side) for side in inputs[0].shape)
            self.shapes.setdefault(module, (n, c, h, w))

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.inside.pop()
        if isinstance(module, nn.Conv2d):
            self.makers[id(output)] = module
            self.outputs.append(output)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") not in BARE:
            for leaf in tree_leaves((args, kwargs)):
                maker = self.makers.get(id(leaf))
                if maker is not None:
                    self.readers[maker].add(self.inside[-1])
        return func(*args, **(kwargs or {}))
