"""What is dropped at random in training: residual branches (stochastic depth) and blocks of a map (DropBlock).

All draw from torch's own generator of x's device: torch.manual_seed repeats them; where nothing can be dropped nothing
is drawn.
"""

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.tracing import whole


class DropPath(nn.Module):
    """In training each picture's x becomes 0 with probability rate; in evaluation x passes unchanged. arXiv:1603.09382.

    x: (N, ...) -> same shape.  rescale: divide survivors by the keep probability, so that the mean stays (NFNet: no).
    """

    def __init__(self, rate: float = 0.0, rescale: bool = True):
        super().__init__()
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"drop path: rate {rate}; must be from 0 to 1")
        self.rate = rate
        self.rescale = rescale

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, ...) -> (N, ...)
        if not self.training or self.rate == 0.0:
            return x
        return drop_path(x, 1.0 - self.rate, self.rescale)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, rescale={self.rescale}"


@whole
def drop_path(x: torch.Tensor, keep: float, rescale: bool) -> torch.Tensor:
    """What DropPath does in training."""
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)  # one draw a picture
    return x * (mask / keep if rescale and keep > 0.0 else mask)


class ScheduledDropPath(nn.Module):
    """DropPath at rate * progress, progress from 0 to 1 being how much of the training is over. arXiv:1707.07012.

    x: (N, ...) -> same shape; survivors are divided by the keep probability.  set_progress moves progress; it stands at
    1 until then. A buffer, so that a new value does not compile the network again; not in the state dict, for it is
    the training's, not the model's.
    """

    progress: torch.Tensor

    def __init__(self, rate: float):
        super().__init__()
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"scheduled drop path: rate {rate}; must be from 0 to 1")
        self.rate = rate
        self.register_buffer("progress", torch.ones(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, ...) -> (N, ...)
        if not self.training or self.rate == 0.0:
            return x
        return drop_more(x, 1.0 - self.rate * self.progress.float())

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


@whole
def drop_more(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """What ScheduledDropPath does in training."""
    kept = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) < keep  # one draw a picture
    return x * (kept / keep.clamp(min=1e-12)).to(x.dtype)


class DropBlock(nn.Module):
    """In training blocks of size x size pixels become 0; in evaluation x passes unchanged. arXiv:1810.12890.

    x: (N, C, H, W) -> same shape.  Algorithm 1: each place where a whole block fits starts one with probability
    gamma = rate * progress * H W / (size^2 (H - size + 1) (W - size + 1)); what is left is multiplied by all values
    over those left, counted over the batch. rate is the share of x that is dropped, but for blocks that overlap; it is
    1 - keep_prob of the paper. A side shorter than size has blocks as long as itself; at 1x1 this is dropout of
    channels.
    shared: one mask for all channels of a picture. The paper's best is a mask a channel, the default; timm's is shared,
    and starts blocks that reach beyond the border.
    Defaults: the paper's keep_prob 0.9 and block_size 7. It lets rate grow linearly from 0 over the training: see
    set_progress; progress stands at 1 until then and is not in the state dict. No parameters.
    """

    progress: torch.Tensor

    def __init__(self, rate: float = 0.1, size: int = 7, shared: bool = False):
        super().__init__()
        if not 0.0 <= rate <= 1.0 or type(size) is not int or size < 1:
            raise ConfigError(f"drop block: rate {rate}, size {size}; rate from 0 to 1, size a whole number from 1")
        self.rate, self.size, self.shared = rate, size, shared
        self.register_buffer("progress", torch.ones(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H, W)
        if not self.training or self.rate == 0.0:
            return x
        return drop_block(x, self.rate * self.progress.float(), self.size, self.shared)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}, size={self.size}, shared={self.shared}"


@whole
def drop_block(x: torch.Tensor, rate: torch.Tensor, size: int, shared: bool) -> torch.Tensor:
    """What DropBlock does in training."""
    n, c, height, width = x.shape
    high, wide = min(size, height), min(size, width)
    rows, columns = height - high + 1, width - wide + 1
    gamma = rate * (height * width / (high * wide * rows * columns))
    starts = torch.rand(n, 1 if shared else c, rows, columns, device=x.device) < gamma
    # with size - 1 on all sides, the windows of a maximum are the places of the blocks that a pixel lies in
    padded = F.pad(starts.float(), (wide - 1, wide - 1, high - 1, high - 1))
    left = 1.0 - F.max_pool2d(padded, (high, wide), stride=1)
    return x * (left * (left.numel() / left.sum().clamp(min=1.0))).to(x.dtype)


def set_progress(model: nn.Module, progress: float) -> None:
    """Tells every ScheduledDropPath and DropBlock in model how much of the training is over, from 0 to 1."""
    if not 0.0 <= progress <= 1.0:
        raise ConfigError(f"set_progress: {progress}; must be from 0 to 1")
    for module in model.modules():
        if isinstance(module, ScheduledDropPath | DropBlock):
            module.progress.fill_(progress)
