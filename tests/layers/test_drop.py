"""Stochastic depth, its scheduled form, DropBlock."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers.drop import DropBlock, DropPath, ScheduledDropPath, set_progress


def dropped(rate, rescale=True, training=True):
    torch.manual_seed(0)
    return DropPath(rate, rescale).train(training)(torch.ones(4000, 2, 3, 3))


def test_each_picture_is_kept_or_dropped_as_a_whole():
    y = dropped(0.25).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])


def test_pictures_are_dropped_at_the_rate_and_the_mean_stays():
    assert (dropped(0.25)[:, 0, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert dropped(0.25).mean().item() == pytest.approx(1.0, abs=0.03)


def test_without_rescaling_survivors_keep_their_size():
    assert set(dropped(0.25, rescale=False).unique().tolist()) == {0.0, 1.0}


def test_evaluation_passes_everything():
    assert dropped(0.9, training=False).eq(1).all()


def test_rate_one_drops_everything():
    assert dropped(1.0).eq(0).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    for make in (DropPath, ScheduledDropPath, DropBlock):
        with pytest.raises(ConfigError, match="rate"):
            make(rate)


# --- scheduled


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_scheduled_rates_grow_with_progress(progress):
    torch.manual_seed(0)
    drop = ScheduledDropPath(0.5)
    set_progress(drop, progress)
    y = drop(torch.ones(4000, 2, 3, 3)).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))
    assert (y[:, 0] == 0).float().mean().item() == pytest.approx(0.5 * progress, abs=0.02)
    assert y.max().item() == pytest.approx(1 / (1 - 0.5 * progress))


def test_a_scheduled_rate_of_one_drops_everything():
    assert ScheduledDropPath(1.0)(torch.ones(8, 2)).eq(0).all()


def test_progress_reaches_every_layer_and_stands_in_no_state_dict():
    model = nn.Sequential(ScheduledDropPath(0.5), nn.Sequential(DropBlock()), nn.Linear(2, 2))
    set_progress(model, 0.25)
    assert [b.item() for b in model.buffers()] == [0.25, 0.25]
    assert model.state_dict().keys() == {"2.weight", "2.bias"}
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="set_progress"):
            set_progress(model, wrong)


# --- blocks


def left(layer, shape, seed=0):
    """What a layer makes of ones."""
    torch.manual_seed(seed)
    return layer.train()(torch.ones(shape))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(64, 4, 9, 9), (64, 4, 5, 8)])
def test_what_is_dropped_is_made_of_whole_blocks(size, shape):
    gone = (left(DropBlock(0.2, size), shape) == 0).float()
    assert 0 < gone.mean() < 1
    window = (min(size, shape[2]), min(size, shape[3]))
    whole = -F.max_pool2d(-gone, window, 1)  # where a block of zeros fits
    high, wide = window[0] - 1, window[1] - 1
    assert torch.equal(F.max_pool2d(F.pad(whole, (wide, wide, high, high)), window, 1), gone)


@pytest.mark.parametrize(("size", "height", "width"), [(1, 6, 6), (3, 6, 6), (2, 5, 8), (7, 14, 14), (7, 4, 9)])
@pytest.mark.parametrize("progress", [1.0, 0.5])
def test_blocks_start_with_probability_gamma(size, height, width, progress):
    """A pixel is left where none of the blocks that reach it starts."""
    high, wide = min(size, height), min(size, width)
    rows, columns = height - high + 1, width - wide + 1
    gamma = 0.2 * progress * height * width / (high * wide * rows * columns)
    reach = torch.outer(
        *(
            torch.tensor([min(i, n - s) - max(0, i - s + 1) + 1 for i in range(n)])
            for n, s in ((height, high), (width, wide))
        )
    )
    layer = DropBlock(0.2, size)
    set_progress(layer, progress)
    share = (left(layer, (400, 16, height, width)) != 0).float().mean((0, 1))
    assert torch.allclose(share, (1 - gamma) ** reach, atol=0.03)
    assert share.mean().item() == pytest.approx(((1 - gamma) ** reach).mean().item(), abs=0.006)
    assert 1 - share.mean().item() <= 0.2 * progress + 0.006


def test_gamma_of_the_paper():
    """keep_prob 0.9, blocks of 7 in a map of 14: 0.1 / 49 * 196 / 64; counted where blocks can not hide each other."""
    starts = left(DropBlock(), (2000, 8, 14, 14))[:, :, 0, 0] == 0  # the corner: one block alone reaches it
    assert starts.float().mean().item() == pytest.approx(0.00625, abs=0.002)


def test_survivors_make_up_for_the_dropped():
    y = left(DropBlock(0.3, 3), (8, 4, 8, 8))
    assert y.mean().item() == pytest.approx(1.0, abs=1e-6)
    assert len(y.unique()) == 2


def test_a_mask_a_channel_or_one_for_all():
    own, shared = (left(DropBlock(0.3, 3, shared=s), (8, 4, 8, 8)) for s in (False, True))
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    assert not torch.equal(own, own[:, :1].expand_as(own))


def test_at_one_pixel_it_drops_channels():
    y = left(DropBlock(0.25, 7), (500, 16, 1, 1))
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_seed_of_torch_decides():
    layer, shape = DropBlock(0.3, 3), (8, 4, 8, 8)
    assert torch.equal(left(layer, shape, 1), left(layer, shape, 1))
    assert not torch.equal(left(layer, shape, 1), left(layer, shape, 2))


@pytest.mark.parametrize(
    "layer", [DropPath(0.5).eval(), DropPath(), ScheduledDropPath(0.0), DropBlock(0.0), DropBlock().eval()]
)
def test_where_nothing_can_be_dropped_nothing_is_drawn(layer):
    x, before = torch.ones(4, 2, 8, 8), torch.get_rng_state()
    assert layer(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_all_dropped_is_zero_and_none_dropped_is_the_input():
    assert left(DropBlock(1.0, 7), (2, 3, 5, 5)).eq(0).all()
    layer = DropBlock(1.0, 3)
    set_progress(layer, 0.0)
    assert left(layer, (2, 3, 5, 5)).eq(1).all()


@pytest.mark.parametrize("layer", [ScheduledDropPath(0.3), DropBlock(0.3, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_gradient_is_the_mask_and_the_type_stays(layer, dtype):
    x = torch.randn(6, 3, 4, 5, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    y = layer.train()(x)
    y.sum().backward()
    torch.manual_seed(3)
    mask = layer(torch.ones_like(x))
    assert y.dtype == dtype
    assert torch.equal(x.grad, mask)


@pytest.mark.parametrize("size", [0, -1, 3.0, True])
def test_a_size_that_is_not_a_whole_number_is_refused(size):
    with pytest.raises(ConfigError, match="size"):
        DropBlock(0.1, size)
