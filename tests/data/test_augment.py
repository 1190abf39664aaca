"""Augmentation of whole batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from foveate.data.augment import COLUMNS, _reflect, augment
from foveate.data.random import uniforms
from foveate.train.recipe import Augment

NOTHING = Augment(flip=False)


def pictures(n=4, side=16, seed=0):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_without_changes_the_picture_is_only_divided_by_255():
    x = pictures()
    out = augment(x, torch.ones(4), uniforms(0, 0, range(4), COLUMNS), 16, NOTHING)
    assert torch.equal(out, x.float() / 255)


def test_flip_mirrors_the_samples_whose_number_is_below_a_half():
    x, u = pictures(64), uniforms(0, 0, range(64), COLUMNS)
    out = augment(x, torch.ones(64), u, 16, Augment(flip=True))
    for i in range(64):
        wanted = x[i].flip(2) if u[i, 0] < 0.5 else x[i]
        assert torch.equal(out[i], wanted.float() / 255)


def test_shift_moves_by_whole_pixels_and_reflects_like_torch():
    x = pictures(32, 8)
    out = augment(x, torch.ones(32), uniforms(1, 2, range(32), COLUMNS), 8, Augment(flip=False, shift=0.25))
    padded = F.pad(x.float() / 255, (2, 2, 2, 2), mode="reflect")
    windows = {(dx, dy): padded[:, :, dy : dy + 8, dx : dx + 8] for dx in range(5) for dy in range(5)}
    moves = [next(k for k, w in windows.items() if torch.equal(w[i], out[i])) for i in range(32)]
    assert len(set(moves)) > 10  # many different moves, each an exact window of the reflected picture


def test_a_batch_gives_each_sample_what_it_gets_alone():
    x, aspect = pictures(6, 24), torch.tensor([0.5, 1.0, 2.0, 1.3, 0.8, 1.0])
    changes = Augment(crop=0.3, colour=0.4, erase=0.5)
    whole = augment(x, aspect, uniforms(0, 3, range(6), COLUMNS), 20, changes)
    for i in range(6):
        alone = augment(x[i : i + 1], aspect[i : i + 1], uniforms(0, 3, [i], COLUMNS), 20, changes)
        assert torch.allclose(whole[i], alone[0], atol=1e-6)


def test_crops_of_a_linear_ramp_have_the_asked_area_and_aspect():
    # a ramp in x and y reads the box off the output: mean slope = box side / size
    side, size, n = 128, 64, 200
    ramp = torch.linspace(0, 255, side).round().to(torch.uint8)
    x = torch.stack(
        (ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side, dtype=torch.uint8))
    )
    out = augment(
        x.expand(n, -1, -1, -1),
        torch.full((n,), 1.5),
        uniforms(0, 0, range(n), COLUMNS),
        size,
        Augment(crop=0.25, flip=False),
    )
    width = (out[:, 0, 0, -1] - out[:, 0, 0, 0]).abs() * size / (size - 1)  # share of the squashed side
    height = (out[:, 1, -1, 0] - out[:, 1, 0, 0]).abs() * size / (size - 1)
    area, aspect = width * height, width / height * 1.5  # in the picture as it was
    assert area.min() > 0.19 and area.max() <= 1.03
    inside = (width < 0.97) & (height < 0.97)  # boxes that were not cut to fit
    assert aspect[inside].min() > 0.72 and aspect[inside].max() < 1.37


def test_without_random_crops_a_wide_picture_gives_its_undistorted_centre():
    side, size = 64, 32
    ramp = torch.linspace(0, 255, side).round().to(torch.uint8).expand(1, 3, side, side)
    out = augment(ramp, torch.tensor([2.0]), uniforms(0, 0, [0], COLUMNS), size, NOTHING)
    assert out[0, 0, 0, 0] == pytest.approx(0.25, abs=0.02)  # the centre square of a 2:1 picture is its middle half
    assert out[0, 0, 0, -1] == pytest.approx(0.75, abs=0.02)


def test_colour_keeps_the_range_and_erase_makes_grey_rectangles():
    x = pictures(50, 32)
    bright = augment(x, torch.ones(50), uniforms(0, 0, range(50), COLUMNS), 32, Augment(flip=False, colour=0.5))
    assert bright.min() >= 0 and bright.max() <= 1
    erased = augment(x, torch.ones(50), uniforms(0, 0, range(50), COLUMNS), 32, Augment(flip=False, erase=1.0))
    share = (erased == 0.5).all(1).float().mean((1, 2))
    assert share.min() > 0.005 and share.max() < 0.25


def test_reflection_never_doubles_the_border_for_any_offset():
    got = _reflect(torch.arange(-10, 15), 4).numpy()
    assert np.array_equal(got, np.pad(np.arange(4), 11, mode="reflect")[1:26])
