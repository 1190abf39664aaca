"""Mixed depthwise convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.conv import conv2d
from foveate.layers.mix_conv import MixConv, dilate, mix_conv, split_channels

SIZES = [(8, 8), (9, 12), (5, 7)]


def picture(*shape):
    """sin(0.37 i) + 0.3 cos(1.7 i), row by row."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(0.37 * i) + 0.3 * torch.cos(1.7 * i)).view(shape)


def filled(model, scale):
    """Every weight 0.1-step sines: scale * sin(0.1 (i + 1))."""
    for p in model.double().parameters():
        i = torch.arange(p.numel(), dtype=torch.float64)
        p.data = (scale * torch.sin(0.1 * (i + 1))).view(p.shape)
    return model


@pytest.mark.parametrize(
    ("channels", "parts", "split", "widths"),
    [
        (10, 3, "equal", [4, 3, 3]),
        (32, 4, "equal", [8, 8, 8, 8]),
        (240, 7, "equal", [36, 34, 34, 34, 34, 34, 34]),
        (32, 4, "exponential", [16, 8, 4, 4]),  # the paper's example
        (10, 3, "exponential", [5, 3, 2]),
        (5, 1, "exponential", [5]),
    ],
)
def test_channels_are_split_by_the_rules_of_the_paper(channels, parts, split, widths):
    assert split_channels(channels, parts, split) == widths


@pytest.mark.parametrize("split", ["equal", "exponential"])
def test_all_channels_go_somewhere_and_earlier_parts_are_not_smaller(split):
    for channels in range(16, 200):
        for parts in range(1, 6):
            widths = split_channels(channels, parts, split)
            assert sum(widths) == channels
            assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("channels", "parts", "split"), [(2, 3, "equal"), (3, 3, "exponential")])
def test_a_part_without_channels_is_refused(channels, parts, split):
    with pytest.raises(ConfigError, match=f"{channels} channels can not be split into {parts}"):
        split_channels(channels, parts, split)


def test_the_golden_values_come_out():
    y = filled(MixConv(10, 10, (3, 5, 7)), 0.3)(picture(2, 10, 6, 6))
    assert y.flatten()[:3].tolist() == pytest.approx([0.40173452, 0.50116591, 0.37395899], rel=1e-6)
    assert y.square().sum().item() == pytest.approx(128.64955210, rel=1e-6)


def test_weights_are_channels_times_kernel_squared():
    assert sum(p.numel() for p in MixConv(10, 10, (3, 5, 7)).parameters()) == 36 + 75 + 147


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_each_part_goes_through_its_own_kernel(stride, size, padding):
    from timm.layers import MixedConv2d

    pad = "same" if padding == "same" else ""
    theirs = MixedConv2d(11, 11, [3, 5, 7], stride=stride, padding=pad, depthwise=True).double()
    ours = MixConv(11, 11, (3, 5, 7), stride=stride, padding=padding).double()
    ours.load_state_dict({f"convs.{k}": v for k, v in theirs.state_dict().items()})
    x = picture(2, 11, *size)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_one_kernel_is_the_depthwise_convolution(stride):
    ours = filled(MixConv(6, 6, (5,), stride=stride, padding="symmetric"), 0.5)
    x = picture(2, 6, 9, 8)
    assert torch.equal(ours(x), F.conv2d(x, ours.convs[0].weight, stride=stride, padding=2, groups=6))


def test_equal_kernels_are_the_depthwise_convolution():
    ours = filled(MixConv(7, 7, (3, 3, 3)), 0.5)
    x, weight = picture(2, 7, 9, 8), torch.cat([conv.weight for conv in ours.convs])
    assert torch.allclose(ours(x), F.conv2d(x, weight, padding=1, groups=7), atol=1e-12)


def test_a_small_kernel_in_the_middle_of_a_large_one_gives_the_same():
    small, large = filled(MixConv(4, 4, (3, 5)), 0.5), filled(MixConv(4, 4, (7, 5)), 0.5)
    large.convs[0].weight.data = F.pad(small.convs[0].weight.data, (2, 2, 2, 2))
    large.convs[1].weight.data = small.convs[1].weight.data
    x = picture(2, 4, 9, 8)
    assert torch.allclose(small(x), large(x), atol=1e-12)


def test_a_dilated_kernel_has_nine_taps_and_the_same_reach():
    mixed = MixConv(8, 8, (3, 5, 7, 9), dilated=True).double()
    assert [c.kernel_size for c in mixed.convs] == [(3, 3)] * 4
    assert [c.dilation for c in mixed.convs] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    full = MixConv(8, 8, (3, 5, 7, 9)).double()
    for a, b in zip(mixed.convs, full.convs, strict=True):  # the same taps, zeros between them
        b.weight.data.zero_()
        b.weight.data[..., :: a.dilation[0], :: a.dilation[0]] = a.weight.data
    x = picture(2, 8, 11, 10)
    assert torch.allclose(mixed(x), full(x), atol=1e-12)


def test_with_a_stride_the_dilated_form_keeps_its_full_kernels():
    assert [c.kernel_size[0] for c in MixConv(8, 8, (3, 5, 7), stride=2, dilated=True).convs] == [3, 5, 7]


def test_a_pointwise_convolution_in_two_parts_is_a_grouped_one():
    ours = filled(MixConv(6, 10, (1, 1), depthwise=False), 0.5)
    x, weight = picture(2, 6, 4, 5), torch.cat([conv.weight for conv in ours.convs])
    assert torch.allclose(ours(x), F.conv2d(x, weight, groups=2), atol=1e-12)


def test_parts_of_odd_widths_split_both_sides_by_the_same_rule():
    ours = MixConv(5, 7, (1, 1), depthwise=False)
    assert [(c.in_channels, c.out_channels) for c in ours.convs] == [(3, 4), (2, 3)]
    assert ours(torch.zeros(1, 5, 3, 3)).shape == (1, 7, 3, 3)


def test_parts_are_made_by_the_plugged_in_convolution():
    made = MixConv(6, 6, (3, 5), make_conv=Layers(conv="conv2d_bias").make_conv)
    assert all(conv.bias is not None for conv in made.convs)


@pytest.mark.parametrize("kernels", [(), (3, 4), (0,)])
def test_even_kernels_and_none_are_refused(kernels):
    with pytest.raises(ConfigError, match="odd"):
        MixConv(8, 8, kernels)


def test_a_depthwise_convolution_keeps_the_number_of_channels():
    with pytest.raises(ConfigError, match="8 channels in, 16 out"):
        MixConv(8, 16, (3, 5))


def test_only_plain_convolutions_can_be_dilated():
    assert dilate(nn.Identity(), 1)(3) == 3
    assert dilate(conv2d(2, 2, 3, padding=2), 2)(torch.zeros(1, 2, 6, 6)).shape == (1, 2, 6, 6)
    with pytest.raises(ConfigError, match="Linear can not be dilated"):
        dilate(nn.Linear(2, 2), 2)


def widened(unit, kernel):
    """The weights of all parts as one depthwise kernel of the largest size."""
    most = unit.convs[-1].kernel_size[0]
    return torch.cat([F.pad(c.weight, 4 * [(most - c.kernel_size[0]) // 2]) for c in unit.convs]), (most - kernel) // 2


@pytest.mark.parametrize("split", ["equal", "exponential"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (5, 2, 2), (5, 1, (0, 2))])
def test_in_the_conv_slot_every_kernel_lies_where_the_hosts_would(kernel, stride, padding, size, split):
    unit = filled(mix_conv(9, 9, kernel, stride=stride, padding=padding, groups=9, bias=True, split=split), 0.5)
    assert [c.kernel_size[0] for c in unit.convs] == [kernel + 2 * i for i in range(4)]
    x = picture(2, 9, *size)
    weight, more = widened(unit, kernel)
    p_y, p_x = (padding, padding) if isinstance(padding, int) else padding
    bias = torch.cat([c.bias for c in unit.convs])
    assert torch.allclose(unit(x), F.conv2d(x, weight, bias, stride, (p_y + more, p_x + more), groups=9), atol=1e-12)
    assert unit(x).shape == nn.Conv2d(9, 9, kernel, stride, padding, groups=9).double()(x).shape


def test_in_the_conv_slot_there_are_no_more_parts_than_channels():
    assert mix_conv(2, 2, 3, padding=1, groups=2).widths == [1, 1]
    assert mix_conv(6, 6, 3, padding=1, groups=6, parts=5, split="exponential").widths == [3, 2, 1]
    assert mix_conv(6, 6, (3, 3), padding=(1, 1), groups=6, parts=1).widths == [6]


@pytest.mark.parametrize(
    ("c_out", "kernel", "groups"), [(8, 3, 1), (8, 3, 4), (16, 3, 8), (8, 1, 8), (8, 2, 8), (8, (1, 3), 8)]
)
def test_in_the_conv_slot_only_odd_square_depthwise_kernels_are_mixed(c_out, kernel, groups):
    unit = mix_conv(8, c_out, kernel, groups=groups)
    assert type(unit) is nn.Conv2d and unit.groups == groups


@pytest.mark.parametrize("options", [{"parts": 0}, {"parts": 9}, {"parts": 2.0}, {"split": "halves"}])
def test_in_the_conv_slot_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="mix_conv"):
        mix_conv(8, 8, 3, groups=8, **options)


@pytest.mark.parametrize("size", [(11, 10), (9, 12)])
def test_in_the_conv_slot_dilated_parts_have_nine_taps_of_the_same_reach(size):
    unit = filled(mix_conv(8, 8, 3, padding=1, groups=8, dilated=True), 0.5)
    assert [c.kernel_size for c in unit.convs] == [(3, 3)] * 4
    weight = torch.zeros(8, 1, 9, 9, dtype=torch.float64)
    for i, conv in enumerate(unit.convs, start=1):
        weight[2 * i - 2 : 2 * i, :, 4 - i : 5 + i : i, 4 - i : 5 + i : i] = conv.weight.data
    x = picture(2, 8, *size)
    assert torch.allclose(unit(x), F.conv2d(x, weight, padding=4, groups=8), atol=1e-12)


def test_in_the_conv_slot_only_a_3x3_is_dilated():
    with pytest.raises(ConfigError, match="must be 3x3"):
        mix_conv(8, 8, 5, padding=2, groups=8, dilated=True)
    strided = mix_conv(8, 8, 5, stride=2, padding=2, groups=8, dilated=True)  # strides keep full kernels
    assert [c.kernel_size[0] for c in strided.convs] == [5, 7, 9, 11]
