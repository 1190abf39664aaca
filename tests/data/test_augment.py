"""Augmentation of whole batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from foveate.data.augment import (
    COLOUR,
    COLUMNS,
    CROP,
    CUT,
    CUT_KEY,
    ERASE,
    ERASE_ASPECT,
    ERASE_KEY,
    FLIP,
    LIGHT,
    POLICY,
    _noise,
    _rectangles,
    _reflect,
    augment,
    mirrored_in,
)
from foveate.data.policies import make_policy
from foveate.data.preprocess import Preprocess
from foveate.data.random import _scramble, uniforms
from foveate.train.recipe import Augment

NOTHING = Augment(flip=False)
IMAGENET = Preprocess()


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
    grey = (erased == 0.5).all(1)
    share = grey.float().mean((1, 2))
    assert share.min() > 0.005 and share.max() < 0.36


def test_erased_rectangles_have_torchvisions_areas_and_aspects():
    side, n = 512, 4000
    y0, y1, x0, x1 = _rectangles(np.random.default_rng(0).random((n, 5)), 1.0, side).T
    free = (y1 - y0 < side) & (x1 - x0 < side)
    area, aspect = ((y1 - y0) * (x1 - x0) / side**2)[free], ((x1 - x0) / (y1 - y0))[free]
    assert 0.018 < area.min() < 0.03 and 0.3 < area.max() < 0.335
    assert 0.29 < aspect.min() < 0.35 and 3.0 < aspect.max() < 3.4
    middle = np.log(aspect[area < 0.1])  # small ones are never cut
    assert abs(middle.mean() - 0.5 * np.log(0.3 * 3.3)) < 0.06 and free.mean() > 0.97


def test_reflection_never_doubles_the_border_for_any_offset():
    got = _reflect(torch.arange(-10, 15), 4).numpy()
    assert np.array_equal(got, np.pad(np.arange(4), 11, mode="reflect")[1:26])


EVERYTHING = Augment(crop=0.3, colour=0.4, lighting=0.1, erase=0.6, erase_with="noise", cutout=0.3)


@pytest.mark.parametrize("changes", [EVERYTHING, Augment(shift=0.2, colour=0.4, erase=0.6)], ids=["crop", "shift"])
@pytest.mark.parametrize("text", ["none", "rand_augment(ops=3)", "trivial_augment"])
def test_a_sample_gets_the_same_bytes_alone_and_in_any_batch(changes, text, monkeypatch):
    x, policy = pictures(40, 24), make_policy(text)
    size = 20 if changes.crop else 24
    aspect = torch.linspace(0.5, 2, 40)

    def changed(samples):
        u = uniforms(0, 3, samples, COLUMNS)
        return augment(x[samples], aspect[samples], u, size, changes, policy=policy)

    kept = x.clone()
    whole = changed(np.arange(40))
    assert all(torch.equal(changed(np.array([i]))[0], whole[i]) for i in range(40))
    turn = np.random.default_rng(1).permutation(40)
    assert torch.equal(changed(turn), whole[turn])
    monkeypatch.setattr("foveate.data.augment.CACHED", 3 * 24 * 24 * 7)  # seven at a time
    assert torch.equal(changed(np.arange(40)), whole)
    assert torch.equal(x, kept)
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(changed(np.arange(40)), whole)
    assert torch.equal(changed(np.array([39]))[0], whole[39])


def test_the_policy_sees_the_flipped_picture_as_bytes():
    x, u, policy = pictures(32), uniforms(0, 0, range(32), COLUMNS), make_policy("trivial_augment")
    turned = torch.where(torch.from_numpy(u[:, 0] < 0.5)[:, None, None, None], x.flip(3), x)
    out = augment(x, torch.ones(32), u, 16, Augment(), policy=policy)
    assert torch.equal(out, policy(turned, u[:, POLICY]).float() / 255)
    # through a crop that keeps everything: the same picture, resized to its own size
    kept = augment(x, torch.ones(32), u, 16, Augment(crop=1.0), policy=policy)
    near = (kept - out).abs() <= 1.5 / 255
    assert near.float().mean() > 0.2  # the aspect of the box is drawn anew, so most pictures are stretched a little
    assert torch.equal((kept * 255).round() / 255, kept)  # bytes


def test_switching_one_change_on_leaves_the_others_as_they_were():
    """The columns of each change are its own, and those of the first twelve stand where they always stood."""
    assert (0, slice(1, 5), slice(5, 8), [8, 9, 10, 11]) == (FLIP, CROP, COLOUR, ERASE)
    taken = [FLIP, *range(1, 12), *range(*LIGHT.indices(99)), *range(*CUT.indices(99)), ERASE_KEY, CUT_KEY]
    taken += [*range(*POLICY.indices(99)), ERASE_ASPECT]
    assert taken == sorted(set(taken), key=taken.index) and set(taken) == set(range(COLUMNS))
    assert np.array_equal(uniforms(4, 2, range(9), COLUMNS)[:, :12], uniforms(4, 2, range(9), 12))


def test_given_flips_take_the_place_of_the_random_ones():
    x, u = pictures(8), uniforms(0, 0, range(8), COLUMNS)
    mirrored = torch.tensor([True, False] * 4)
    for changes in (Augment(), NOTHING):
        out = augment(x, torch.ones(8), u, 16, changes, mirrored=mirrored)
        assert torch.equal(out[::2], x[::2].flip(3).float() / 255) and torch.equal(out[1::2], x[1::2].float() / 255)
    ramp = torch.linspace(0, 255, 32).round().to(torch.uint8).expand(8, 3, 32, 32)
    cropped = augment(ramp, torch.ones(8), u, 16, Augment(crop=0.5), mirrored=mirrored)
    assert torch.equal(cropped[:, 0, 0, 0] > cropped[:, 0, 0, -1], mirrored)


def test_two_epochs_in_a_row_show_both_versions_of_every_sample():
    samples = np.arange(4000)
    by_epoch = np.stack([mirrored_in(7, epoch, samples) for epoch in range(5)])
    assert by_epoch.dtype == bool and (by_epoch[1:] != by_epoch[:-1]).all()
    assert by_epoch[0].mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(4000))
    assert np.array_equal(mirrored_in(7, 3, [5, 100]), by_epoch[3, [5, 100]])  # of the sample alone
    assert not np.array_equal(mirrored_in(8, 0, samples), by_epoch[0])


def test_lighting_moves_each_picture_along_the_principal_colours_of_imagenet():
    n = 4000
    x = torch.full((n, 3, 2, 2), 100, dtype=torch.uint8)
    out = augment(x, torch.ones(n), uniforms(0, 0, range(n), COLUMNS), 2, Augment(flip=False, lighting=0.1))
    shift = (out - 100 / 255).double()
    assert (shift - shift[:, :, :1, :1]).abs().max() < 1e-6  # one colour a picture
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    assert np.allclose(vectors.T @ vectors, np.eye(3), atol=2e-4)
    amounts = shift[:, :, 0, 0].numpy() @ vectors / np.array([0.2175, 0.0188, 0.0045])  # N(0, 0.1) along each axis
    assert amounts.std(0) == pytest.approx(0.1, rel=0.06)
    assert abs(amounts.mean(0)).max() < 0.01 and abs(np.corrcoef(amounts.T) - np.eye(3)).max() < 0.07


def test_erasing_with_noise_fills_the_same_rectangles_with_normal_numbers():
    n, side = 300, 32
    x, u = pictures(n, side), uniforms(0, 0, range(n), COLUMNS)
    grey = augment(x, torch.ones(n), u, side, Augment(flip=False, erase=0.5))
    noise = augment(x, torch.ones(n), u, side, Augment(flip=False, erase=0.5, erase_with="noise"))
    plain = x.float() / 255
    place = (grey == 0.5).all(1) & (plain != 0.5).any(1)
    assert place.flatten(1).any(1).float().mean() == pytest.approx(0.5, abs=0.15)
    outside = ~place[:, None].expand_as(x)
    assert torch.equal(noise[outside], plain[outside]) and torch.equal(grey[outside], plain[outside])
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    z = (noise.permute(0, 2, 3, 1)[place] - mean) / std  # (M, 3): what the network sees
    assert len(z) > 5000
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(z.T.numpy()) - np.eye(3)).max() < 4 / np.sqrt(len(z))
    erased = np.flatnonzero(place.flatten(1).any(1).numpy())
    assert len({float(noise[i].permute(1, 2, 0)[place[i]][0, 0]) for i in erased}) == len(erased)  # each its own


def test_noise_grows_from_split_mix_like_the_uniform_numbers():
    key = np.uint64(0x0123456789ABCDEF)
    with np.errstate(over="ignore"):
        state = _scramble(key + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, 50, dtype=np.uint64))
    wanted = stats.norm.ppf(((state >> np.uint64(40)) + 0.5) / 2**24)
    got = _noise(torch.tensor(int(key)), torch.arange(1, 50))
    assert got.numpy() == pytest.approx(wanted, abs=1e-5)


def test_cutout_erases_a_square_around_a_pixel_and_cuts_it_at_the_border():
    n, side = 500, 20
    x = torch.full((n, 3, side, side), 255, dtype=torch.uint8)
    out = augment(x, torch.ones(n), uniforms(2, 0, range(n), COLUMNS), side, Augment(flip=False, cutout=0.4))
    hole = (out == 0.5).all(1)
    assert torch.equal(~hole, (out == 1).all(1))
    height, width = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), height * width)  # a rectangle
    assert height.max() == width.max() == 8 and height.min() >= 4
    # rows from the middle's - 4 to its + 3, cut: 13 of the 20 places leave all eight rows, 4 to 7 rows the others
    assert (height == 8).float().mean() == pytest.approx(13 / 20, abs=0.08)
    assert len({(int(h.any(1).int().argmax()), int(h.any(0).int().argmax())) for h in hole}) > 100


def test_an_empty_batch_stays_empty():
    out = augment(pictures(0), torch.ones(0), uniforms(0, 0, [], COLUMNS), 12, EVERYTHING)
    assert out.shape == (0, 3, 12, 12)
