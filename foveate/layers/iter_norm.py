"""IterNorm: whitening of channel groups by Newton's iteration. arXiv:1904.03441, 2108.10629 (before convolutions)."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.norm import at_least_float32, check, follow, lone, no_autocast, over_processes, processes
from foveate.layers.traits import Traits

MOST_STEPS = 20
LARGEST_SHIFT = 100.0  # in deviations: what fuse may take from a padded picture


def moments(x: torch.Tensor, size: int, sync: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of each group of `size` channels, over all other axes: (C,) and (C / size, size, size).

    x: (N, C, ...), in float32 or float64. sync: over the pictures of all processes.
    """
    rows = x.transpose(0, 1).reshape(x.shape[1] // size, size, -1)  # (G, D, m)
    count: torch.Tensor | int = rows.shape[-1]
    total = rows.sum(-1, keepdim=True)
    if sync:
        count, total = over_processes(rows.new_tensor(count)), over_processes(total)
    mean = total / count
    rows = rows - mean
    products = rows @ rows.transpose(1, 2)
    return mean.flatten(), (over_processes(products) if sync else products) / count


def inverse_root(matrix: torch.Tensor, size: torch.Tensor, steps: int) -> torch.Tensor:
    """About matrix^(-1/2): `steps` Newton steps from size^(-1/2) I. matrix, symmetric: (G, D, D); size: (G, 1, 1).

    size is a norm that no eigenvalue exceeds. An eigenvalue l of matrix / size is answered by p_T(l) / sqrt(size),
    p_0 = 1, p <- 1.5 p - 0.5 p^3 l; it rises towards l^(-1/2) and never passes 1.5^steps.
    The papers write P <- 1.5 P - 0.5 P^3 S. This is the coupled form, which has the same P and as many products: in
    theirs rounding errors grow from step to step (float32: useless after 9 steps), in this one they do not, up to the
    20 steps that MOST_STEPS allows. Later an eigenvalue that rounding made negative would grow without bounds.
    """
    root, identity = matrix / size, torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = middle = 1.5 * identity - 0.5 * root  # the first step, from I
    for _ in range(steps - 1):
        root = root @ middle
        middle = torch.baddbmm(identity.expand_as(root), inverse, root, beta=1.5, alpha=-0.5)
        inverse = middle @ inverse
    return inverse * size.rsqrt()


def transform(
    x: torch.Tensor, mean: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """matrix (x - mean) + bias, group by group, as a 1x1 convolution. matrix: (G, D, D); x: (N, G D, H, W) -> same."""
    groups, size, _ = matrix.shape
    kernel = matrix.reshape(groups * size, size, 1, 1).to(x.dtype)
    centred = (x - mean.view(-1, 1, 1)).to(x.dtype)
    return F.conv2d(centred, kernel, None if bias is None else bias.to(x.dtype), groups=groups)


def identities(count: int, size: int) -> torch.Tensor:
    """(count, size, size). torch.eye of a network without values loads torch._dynamo, which takes seconds."""
    matrices = torch.zeros(count, size, size)
    matrices.diagonal(dim1=1, dim2=2).fill_(1)
    return matrices


class IterNorm(nn.Module):
    """gamma * W (x - mean) + beta, W about the inverse root of the covariance of a group's D channels over (N, H, W).

    With S = cov + eps I: W = P_T / sqrt(tr S), P_0 = I, P <- 1.5 P - 0.5 P^3 S / tr S, T steps (section 3.2; see
    inverse_root). W is symmetric. An eigenvalue l of S / tr S becomes l p_T(l)^2 <= 1: the output is white only in the
    limit, and with D = 64 and T = 5 its variance is 0.586 at best. Tune T in 3 to 8; a large D wants more steps.
    x: (N, C, H, W) -> same.  group_size: D; widths that it does not divide take the greatest common divisor (the
    authors' port halves D, which is the same for powers of two). D = 1 is batch normalisation.
    Running averages of the mean and of W itself, from 0 and I, with PyTorch's momentum, serve in evaluation.
    Statistics and steps are float32 at least, also inside autocast; what autocast makes of it is the application of W.
    sync: statistics over the pictures of all processes (torch.distributed).

    m = N H W values a channel should be many times D: below it the covariance is singular. What a batch has no values
    for is then multiplied by up to 1.5^T / sqrt(tr S) and comes out near 0, but the running W keeps these large factors
    for the pictures of evaluation. One value a channel (a batch of one on a 1x1 map): the running statistics serve as
    in evaluation, and stay.
    Parameters 2 C. MACs of a picture 2 H W C D, of which H W C D in evaluation; in training and 3 T C D^2 a batch.
    """

    running_mean: torch.Tensor
    running_whitening: torch.Tensor

    def __init__(
        self,
        channels: int,
        group_size: int = 64,
        steps: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        sync: bool = False,
    ):
        super().__init__()
        if group_size < 1 or not 1 <= steps <= MOST_STEPS:
            raise ConfigError(f"iter_norm(group_size={group_size}, steps={steps}): group_size from 1, steps 1 to 20")
        check("iter_norm", eps, momentum)
        self.size = math.gcd(group_size, channels)
        self.steps, self.eps, self.momentum, self.sync = steps, eps, momentum, sync
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_whitening", identities(channels // self.size, self.size))

    @property
    def traits(self) -> Traits:
        """Channels of a block are whitened together."""
        return Traits("norm", self.size, counting=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, whitening = self.running_mean, self.running_whitening
        if self.training and not (lone(x) and (not self.sync or processes() == 1)):
            with no_autocast(x):
                mean, whitening = self.estimate(at_least_float32(x))
            follow(self.running_mean, mean, self.momentum)
            follow(self.running_whitening, whitening, self.momentum)
        return transform(x, mean, self.scaled(whitening), self.bias)

    def estimate(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (C,) and whitening matrices (C / D, D, D) of this batch."""
        mean, cov = moments(x, self.size, self.sync)
        cov = cov + self.eps * torch.eye(self.size, dtype=cov.dtype, device=cov.device)
        return mean, inverse_root(cov, cov.diagonal(dim1=-2, dim2=-1).sum(-1).view(-1, 1, 1), self.steps)

    def scaled(self, whitening: torch.Tensor) -> torch.Tensor:
        """diag(gamma) W."""
        return whitening if self.weight is None else self.weight.view(-1, self.size, 1) * whitening

    def extra_repr(self) -> str:
        return f"{len(self.running_mean)}, group_size={self.size}, steps={self.steps}, eps={self.eps:g}"


class Shift(nn.Module):
    """x - value, one number a channel. (N, C, H, W) -> same."""

    value: torch.Tensor

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.register_buffer("value", value.view(-1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.value


@torch.no_grad()
def fuse(norm: IterNorm, conv: nn.Conv2d) -> nn.Module:
    """conv(norm(x)) of evaluation as one convolution with kernel W' = W diag(gamma) W_norm. The parts stay as they are.

    Exact, but for rounding, and free for 1x1 and unpadded kernels, and for padding that repeats the picture: bias
    b' = b + W (beta - diag(gamma) W_norm mean). Zero padding is exact too, for one subtraction more: the zeros were
    added behind the norm, so the shift that it maps to 0, mean - W_norm^-1 (beta / gamma), is taken from x before x is
    padded. That shift exists if no gain is 0 beside a bias that is not; a gain below a hundredth of its bias would make
    it so large that the subtraction loses digits, and is refused too.
    A grouped convolution must have whole groups of the norm in each of its own.
    """
    per = conv.in_channels // conv.groups
    if type(conv) is not nn.Conv2d or conv.in_channels != len(norm.running_mean) or per % norm.size:
        raise ConfigError(
            f"{conv} can not take in {norm}: a plain convolution of as many channels is needed, whose groups hold "
            "whole groups of the norm"
        )
    zeros = torch.zeros_like(norm.running_mean)
    gain, beta = (zeros + 1, zeros) if norm.weight is None or norm.bias is None else (norm.weight, norm.bias)
    matrix = norm.scaled(norm.running_whitening).double()  # (G, D, D)
    # conv groups, outputs of each, norm groups of each, D, taps
    kernel = conv.weight.double().reshape(conv.groups, -1, per // norm.size, norm.size, *conv.kernel_size)
    blocks = matrix.reshape(conv.groups, per // norm.size, norm.size, norm.size)
    mean = norm.running_mean.double()
    shift = beta - (matrix @ mean.view(-1, norm.size, 1)).flatten()
    made = copy.deepcopy(conv)
    fused = torch.einsum("gobdkl,gbde->gobekl", kernel, blocks).reshape(conv.weight.shape)
    made.weight.copy_(fused)  # keeps the strides: einsum's own can make a 1x1 convolution slower by a quarter
    bias = kernel.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.double()
    padded = conv.padding_mode == "zeros" and conv.padding not in ("valid", (0, 0)) and bool(shift.any())
    if padded:
        if bool((beta.abs() > LARGEST_SHIFT * gain.abs()).any()):
            raise ConfigError(
                f"{norm}: a gain of 0, or below a hundredth of its bias: nothing, or something too far away, is mapped "
                f"to 0, so {conv} can not be fused"
            )
        ratio = torch.where(gain == 0, zeros, beta / gain).double().view(-1, norm.size, 1)
        value = mean - torch.linalg.solve(norm.running_whitening.double(), ratio).flatten()
    else:
        bias = bias + torch.einsum("gobdkl,gbd->go", kernel, shift.reshape(blocks.shape[:3])).flatten()
    made.bias = nn.Parameter(bias.to(conv.weight.dtype))
    return nn.Sequential(Shift(value.to(norm.running_mean.dtype)), made) if padded else made


@torch.no_grad()
def fuse_behind(conv: nn.Conv2d, norm: IterNorm) -> nn.Conv2d:
    """norm(conv(x)) of evaluation as one convolution, M = diag(gamma) W_norm: kernel M W, bias beta + M (b - mean).

    Exact, but for rounding, whatever the padding, and free. The parts stay as they are.
    A grouped convolution must have whole groups of the norm among the outputs of each of its own.
    """
    if not takes_in(conv, norm):
        raise ConfigError(
            f"{conv} can not take in {norm}: a plain convolution to as many channels is needed, the outputs of whose "
            "groups are whole groups of the norm"
        )
    matrix = norm.scaled(norm.running_whitening).double()  # (G, D, D)
    rows = conv.weight.double().reshape(len(matrix), norm.size, -1)  # outputs of a norm group, D; inputs and taps
    shift = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
    bias = (matrix @ shift.view(-1, norm.size, 1)).flatten()
    made = copy.deepcopy(conv)
    made.weight.copy_((matrix @ rows).reshape(conv.weight.shape))
    made.bias = nn.Parameter((bias if norm.bias is None else bias + norm.bias).to(conv.weight.dtype))
    return made


def takes_in(conv: nn.Module, norm: IterNorm) -> bool:
    """Whether conv can be one convolution with the norm behind it."""
    if type(conv) is not nn.Conv2d or conv.out_channels != len(norm.running_mean):
        return False
    return conv.out_channels // conv.groups % norm.size == 0
