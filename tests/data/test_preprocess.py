"""Preprocessing against torchvision and Pillow."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.data.preprocess import (
    Preprocess,
    crop_box,
    normalise,
    normalise_own,
    normalise_unit,
    prepare,
    resized_size,
)
from foveate.data.read.fast import shrunk
from foveate.errors import DataError

DRAW = np.random.default_rng(0)
SIZES = [(1, 1), (1, 37), (224, 224), (256, 256), (33, 32), (40, 401), *map(tuple, DRAW.integers(2, 300, (14, 2)))]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resolution", "resize"), [(32, 37), (31, 31), (96, 110)])
def test_crop_gives_the_bytes_of_torchvision(kernel, resolution, resize):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    theirs = Compose([Resize(resize, InterpolationMode(kernel), antialias=True), CenterCrop(resolution)])
    p = Preprocess(resolution=resolution, resize=resize, kernel=kernel)
    for height, width in SIZES:
        pixels = noise(height, width)
        np.testing.assert_array_equal(prepare(pixels, p), np.asarray(theirs(Image.fromarray(pixels))))


def test_the_resized_size_is_torchvisions():
    from torchvision.transforms.functional import _compute_resized_output_size

    for width, height, resize in np.random.default_rng(1).integers(1, 5000, (3000, 3)).tolist():
        p = Preprocess(resolution=1, resize=min(resize, 4096))
        assert list(resized_size(width, height, p)) == _compute_resized_output_size((height, width), [p.resize])[::-1]


def test_the_crop_is_centred_with_halves_to_even():
    p = Preprocess(resolution=10, resize=10)
    for width in range(10, 40):
        left, top, right, bottom = crop_box(width, 10, p)
        assert (left, top, right - left, bottom - top) == (round((width - 10) / 2), 0, 10, 10)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_squash_is_one_resize(kernel):
    pixels = noise(40, 91)
    expected = Image.fromarray(pixels).resize((24, 24), Image.Resampling[kernel.upper()])
    np.testing.assert_array_equal(prepare(pixels, Preprocess(resolution=24, fit="squash", kernel=kernel)), expected)


@pytest.mark.parametrize(
    ("height", "width", "box"), [(20, 40, (0, 6, 24, 18)), (40, 20, (6, 0, 18, 24)), (200, 1, (12, 0, 13, 24))]
)
def test_letterbox_is_centred_between_bars(height, width, box):
    p = Preprocess(resolution=24, fit="letterbox", fill=9)
    pixels = noise(height, width)
    out = prepare(pixels, p)
    left, top, right, bottom = box
    inner = Image.fromarray(pixels).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(out[top:bottom, left:right], inner)
    out[top:bottom, left:right] = 9
    assert (out == 9).all()


def test_the_training_square_is_the_whole_picture():
    pixels = noise(30, 70)
    expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)
    square = shrunk(Image.fromarray(pixels), 16).permute(1, 2, 0).numpy()
    assert np.abs(square.astype(int) - np.array(expected).astype(int)).max() <= 1


def test_the_answer_can_be_written_to():
    assert prepare(noise(9, 9), Preprocess(resolution=8, resize=8)).flags.writeable  # torch.from_numpy warns otherwise


def test_normalise_gives_the_bits_of_torchvision():
    from torchvision.transforms import Compose, Normalize, ToTensor

    p = Preprocess(resolution=8, resize=8)
    pictures = [noise(8, 8), 255 - noise(8, 8)]
    theirs = torch.stack([Compose([ToTensor(), Normalize(p.mean, p.std)])(x) for x in pictures])
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    ours = normalise(batch, p)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)
    assert torch.equal(normalise_unit(batch.float() / 255, p), theirs)
    for layout in (torch.contiguous_format, torch.channels_last):
        own = (batch.float() / 255).contiguous(memory_format=layout)
        assert normalise_own(own, p) is own and torch.equal(own, theirs)
    assert batch.dtype == torch.uint8 and torch.equal(batch[0].permute(1, 2, 0), torch.from_numpy(pictures[0]))


@pytest.mark.parametrize("pixels", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_anything_but_rgb_bytes_is_refused(pixels):
    with pytest.raises(DataError, match="expected uint8"):
        prepare(pixels, Preprocess())


SIDES = st.integers(1, 20_000)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(width=SIDES, height=SIDES, resolution=st.integers(1, 512), more=st.integers(0, 200))
def test_the_crop_lies_in_the_middle_of_the_resized_picture_whatever_its_size(width, height, resolution, more):
    for fit in ("crop", "squash", "letterbox"):
        p = Preprocess(resolution=resolution, resize=resolution + more, fit=fit)
        wide, high = resized_size(width, height, p)
        left, top, right, bottom = crop_box(wide, high, p)
        assert (right - left, bottom - top) == (resolution, resolution)
        assert abs(left - (wide - right)) <= 1 and abs(top - (high - bottom)) <= 1
        if fit == "crop":  # nothing but picture in the box; the short side is exact, the long one keeps the shape
            assert left >= 0 and top >= 0 and right <= wide and bottom <= high
            assert min(wide, high) == p.resize
            assert abs(wide * height - high * width) < max(width, height)
        elif fit == "squash":
            assert (left, top, right, bottom) == (0, 0, wide, high)
        else:  # all of the picture in the box
            assert left <= 0 and top <= 0 and right >= wide and bottom >= high
            assert max(wide, high) == resolution and min(wide, high) >= 1
        assert resized_size(height, width, p) == (high, wide)
