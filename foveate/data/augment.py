"""Augmentation of whole batches on the training device. Every random number comes from uniforms(seed, epoch, sample).

What a sample gets depends on its own numbers alone, to the last bit: not on the batch around it, the order, or the
workers. Everything about a picture as a whole (box, factors, place of a rectangle) is computed on the CPU in float64.
"""

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from foveate.data.policies import MAX_OPS, PER_OP, Policy, normals
from foveate.data.random import uniforms

# Random numbers of a sample, in fixed places, so that switching one change on leaves the others as they were.
FLIP, CROP, SHIFT, COLOUR, ERASE = 0, slice(1, 5), slice(1, 3), slice(5, 8), [8, 9, 10, 11]
LIGHT, CUT, ERASE_KEY, CUT_KEY = slice(12, 15), slice(15, 17), 17, 18
POLICY = slice(19, 19 + MAX_OPS * PER_OP)
ERASE_ASPECT = POLICY.stop
COLUMNS = ERASE_ASPECT + 1

CACHED = 2**20  # numbers that a CPU changes at a time: what follows stays in its cache, several times faster
PHASES = 2**62  # stands where uniforms takes an epoch, for numbers that hold in every epoch
# Pixel statistics of ImageNet, colours from 0 to 1: mean and deviation, and the principal axes (columns) of the
# covariance with their eigenvalues, as published with the Torch training of ResNet (facebook/fb.resnet.torch)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


class Changes(Protocol):
    """What augment reads; train.recipe.Augment has these fields."""

    @property
    def crop(self) -> float: ...
    @property
    def shift(self) -> float: ...
    @property
    def flip(self) -> bool: ...
    @property
    def colour(self) -> float: ...
    @property
    def lighting(self) -> float: ...
    @property
    def erase(self) -> float: ...
    @property
    def erase_with(self) -> Literal["grey", "noise"]: ...
    @property
    def cutout(self) -> float: ...


def augment(
    stored: torch.Tensor,
    aspect: torch.Tensor,
    u: np.ndarray,
    size: int,
    changes: Changes,
    *,
    policy: Policy | None = None,
    mirrored: torch.Tensor | None = None,
) -> torch.Tensor:
    """uint8 (N, 3, S, S), squashed squares -> float32 (N, 3, size, size) in [0, 1]; lighting and noise go beyond it.

    In turn: crop or shift, flip, policy, colour, lighting, erase, cutout. aspect: width / height of the pictures before
    squashing, (N,), best left on the CPU. u: uniforms, float64 (N, COLUMNS). policy: made once from changes.policy
    (policies.make_policy); it sees the pictures at the training size as bytes. mirrored: bool (N,), takes the place of
    the random flip (see mirrored_in).
    """
    n, side = len(stored), stored.shape[3]
    flip = u[:, FLIP] < 0.5 if changes.flip else np.zeros(n, bool)
    if mirrored is not None:
        flip = mirrored.cpu().numpy()
    ratio = aspect.cpu().double().numpy()
    at_once = max(1, CACHED // (3 * max(side, size) ** 2) if stored.device.type == "cpu" else n)
    last = stored.permute(0, 2, 3, 1).is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    out = torch.empty((n, 3, size, size), device=stored.device, memory_format=layout)
    for i in range(0, n, at_once):
        part = slice(i, i + at_once)
        slot = out[part]
        x = _change(stored[part], ratio[part], flip[part], u[part], size, changes, policy, slot)
        if n <= at_once:
            return x
        if x is not slot:
            slot.copy_(x)
    return out


def mirrored_in(seed: int, epoch: int, samples: Sequence[int] | np.ndarray) -> np.ndarray:
    """Alternating flip, arXiv:2404.00498: which samples are mirrored in this epoch, bool (N,).

    Half of them, drawn once by (seed, sample), in the even epochs, and the other half in the odd ones: two epochs in a
    row show both versions of every sample.
    """
    phase = uniforms(seed, PHASES, samples, 1)[:, 0] < 0.5
    return phase ^ bool(epoch % 2)


def _change(
    stored: torch.Tensor,
    aspect: np.ndarray,
    flip: np.ndarray,
    u: np.ndarray,
    size: int,
    changes: Changes,
    policy: Policy | None,
    room: torch.Tensor,
) -> torch.Tensor:
    """augment for pictures that fit into the cache together; room: of the result's shape, which may be used."""
    side, device = stored.shape[3], stored.device
    if changes.crop > 0 or side != size:
        grid = _crop_grid(u[:, CROP], aspect, flip, size, changes, device)
        x = stored.float() if policy else stored.float().div_(255)
        # no box leaves the picture: what lies between its edge and the middle of its outermost pixels is their colour
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        x = x.round_().to(torch.uint8) if policy else x
    else:
        x = _turned(stored, flip)
        reach = round(changes.shift * size)
        x = _translate(x, u[:, SHIFT], reach) if reach else x
    if policy is not None:
        x = policy(x, u[:, POLICY])
    x = x if x.is_floating_point() else room.copy_(x).div_(255)
    if changes.colour > 0:
        x = _colour(x, _moved(1 + changes.colour * (2 * u[:, COLOUR] - 1), device))
    if changes.lighting > 0:
        x = x + _moved(_lighting(u[:, LIGHT], changes.lighting), device)[:, :, None, None]
    if changes.erase > 0:
        x = _fill(
            x, _rectangles(u[:, [*ERASE, ERASE_ASPECT]], changes.erase, size), u[:, ERASE_KEY], changes.erase_with
        )
    if changes.cutout > 0:
        x = _fill(x, _squares(u[:, CUT], changes.cutout, size), u[:, CUT_KEY], changes.erase_with)
    return x


def _moved(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """float64 on the CPU -> float32 on the device."""
    return torch.from_numpy(numbers).to(torch.float32).to(device)


def _turned(stored: torch.Tensor, flip: np.ndarray) -> torch.Tensor:
    """Some of the pictures mirrored."""
    if stored.device.type != "cpu":
        return torch.where(torch.from_numpy(flip).to(stored.device)[:, None, None, None], stored.flip(3), stored)
    x = stored.clone() if flip.any() else stored
    for i in np.flatnonzero(flip).tolist():  # on a CPU half the time of choosing by a mask
        x[i] = stored[i].flip(2)
    return x


def _crop_grid(
    u: np.ndarray, aspect: np.ndarray, flip: np.ndarray, size: int, changes: Changes, device: torch.device
) -> torch.Tensor:
    """Sampling grid (N, size, size, 2) of random resized crops: area in [crop, 1], aspect 3/4 to 4/3 in the picture
    as it was. u: area, aspect, place across, place down.
    """
    if changes.crop > 0:
        area = changes.crop + (1 - changes.crop) * u[:, 0]
        ratio = np.exp((2 * u[:, 1] - 1) * math.log(4 / 3)) / aspect  # of the squashed square
    else:
        ratio = 1 / aspect
        area = np.minimum(ratio, 1 / ratio)  # the centre square of the picture
    # a box that is too long for the square is cut to fit: its area shrinks, its middle stays free to move
    width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
    moving = 1.0 if changes.crop > 0 else min(1.0, 2 * changes.shift)
    x0 = (1 - width) * (2 * u[:, 2] - 1) * moving  # centre of the box, in [-1, 1]
    y0 = (1 - height) * (2 * u[:, 3] - 1) * moving
    axis = (np.arange(size) + 0.5) * (2 / size) - 1  # (size,)
    across = _moved(x0[:, None] + np.where(flip, -width, width)[:, None] * axis, device)  # (N, size) each
    down = _moved(y0[:, None] + height[:, None] * axis, device)
    return torch.stack((across[:, None, :].expand(-1, size, -1), down[:, :, None].expand(-1, -1, size)), -1)


def _translate(x: torch.Tensor, u: np.ndarray, reach: int) -> torch.Tensor:
    """Shift by whole pixels in [-reach, reach], reflected at the border. uint8 (N, 3, S, S) -> same."""
    n, channels, side, _ = x.shape
    offset = torch.from_numpy((u * (2 * reach + 1)).astype(np.int64) - reach).to(x.device)  # (N, 2), (dx, dy)
    place = torch.arange(side, device=x.device)
    columns, rows = (_reflect(place + offset[:, i, None], side) for i in (0, 1))  # (N, S) each
    x = x.gather(2, rows[:, None, :, None].expand(n, channels, side, side))
    return x.gather(3, columns[:, None, None, :].expand(n, channels, side, side))


def _reflect(i: torch.Tensor, side: int) -> torch.Tensor:
    """Indices outside [0, side) reflected back in (the border pixel is not doubled)."""
    last = side - 1
    if last == 0:
        return torch.zeros_like(i)
    i = i.abs() % (2 * last)
    return torch.minimum(i, 2 * last - i)


def _colour(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation by factors (N, 3); float (N, 3, H, W) in [0, 1] -> same, clamped."""
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    x = x * brightness
    grey = 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]  # (N, 1, H, W), ITU-R BT.601
    middle = grey.mean(3, keepdim=True).mean(2, keepdim=True)  # row by row: the sum does not change with the batch
    x = torch.lerp(grey, x, saturation.expand_as(x))
    return torch.lerp(middle.expand_as(x), x, contrast.expand_as(x)).clamp_(0, 1)


def _lighting(u: np.ndarray, deviation: float) -> np.ndarray:
    """The noise of AlexNet (section 4.1) along the principal colours of ImageNet: sum over the axes of vector *
    eigenvalue * N(0, deviation), one colour (N, 3) a picture. Not clamped, as in the Torch training of ResNet.
    """
    amounts = deviation * normals(u) * EIGENVALUES
    shift: np.ndarray = (amounts[:, None, :] * EIGENVECTORS).sum(2)
    return shift


def _rectangles(u: np.ndarray, chance: float, side: int) -> np.ndarray:
    """Random erasing, arXiv:1708.04896: one rectangle of 2 to 33 % of the area, as int (N, 4): y0, y1, x0, x1.

    u: whether, area, place across, place down, aspect. The aspect is from 0.3 to 3.3, evenly in its logarithm. Area and
    aspect are torchvision's; the paper goes up to 40 %. Deliberate difference: a rectangle that is too long for the
    picture is cut to fit, where they draw again.
    """
    area = (0.02 + 0.31 * u[:, 1]) * (u[:, 0] < chance)  # 0: no rectangle
    stretch = np.exp(0.5 * (math.log(0.3) + math.log(3.3 / 0.3) * u[:, 4]))
    wide, high = np.minimum(np.sqrt(area) * stretch, 1.0), np.minimum(np.sqrt(area) / stretch, 1.0)
    x0, y0 = u[:, 2] * (1 - wide), u[:, 3] * (1 - high)
    ends = np.stack((y0, y0 + high, x0, x0 + wide), 1)
    return np.ceil(ends * side - 0.5).astype(np.int64)  # pixels whose middle lies in [start, end)


def _squares(u: np.ndarray, share: float, side: int) -> np.ndarray:
    """Cutout, arXiv:1708.04552: a square of round(share * side) pixels around a random pixel, cut off at the border;
    int (N, 4): y0, y1, x0, x1.
    """
    edge, middle = round(share * side), (u * side).astype(np.int64)  # (N, 2): across, down
    start = middle - edge // 2
    x, y = start[:, 0], start[:, 1]
    return np.clip(np.stack((y, y + edge, x, x + edge), 1), 0, side)


def _fill(x: torch.Tensor, boxes: np.ndarray, key: np.ndarray, how: Literal["grey", "noise"]) -> torch.Tensor:
    """The boxes (N, 4) of x (N, 3, S, S) filled in place: mid grey, or normal noise for every number, with the mean and
    deviation of ImageNet's colours, so that a normalised picture holds N(0, 1) there (timm's mode "pixel").

    key: a uniform number a sample (N,), from which its noise grows; a pixel's noise depends on key and place alone.
    """
    y0, y1, x0, x1 = boxes.T
    count = (y1 - y0) * (x1 - x0)
    sample = np.repeat(np.arange(len(boxes)), count)  # of every pixel that is filled
    nth = np.arange(len(sample)) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(nth, (x1 - x0)[sample])
    places = [torch.from_numpy(v).to(x.device) for v in (sample, row + y0[sample], column + x0[sample])]
    value: float | torch.Tensor = 0.5
    if how == "noise":
        keys = torch.from_numpy((key * 2**53).astype(np.int64) << 11).to(x.device)[places[0]]
        colours = torch.arange(1, 4, device=x.device)  # a stream of its own for every number of the picture
        value = _noise(keys[:, None], (places[1] * x.shape[3] + places[2])[:, None] * 3 + colours)
        value = value * torch.tensor(DEVIATION, device=x.device) + torch.tensor(MEAN, device=x.device)
    x[places[0], :, places[1], places[2]] = torch.as_tensor(value, device=x.device)  # (M, 3)
    return x


def _noise(key: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
    """Normal numbers, float32: number i of SplitMix64 (see data/random.py) started at key, through the inverse of the
    normal distribution. int64 tensors that broadcast; whole-number arithmetic, the same on every device.
    """
    x = key + number * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number; wrap-around is the arithmetic here
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    x = x ^ ((x >> 31) & (2**33 - 1))
    unit = (((x >> 40) & (2**24 - 1)).float() * 2 + 1) * 2.0**-24 - 1  # the middles of 2**24 steps, in (-1, 1)
    return torch.erfinv(unit) * math.sqrt(2)
