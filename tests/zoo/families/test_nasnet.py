"""NASNet against published counts, timm and pytorchcv; any genotype of its search space."""

import random
from itertools import pairwise
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from compare import difference, on_meta, shapes, timm_on_meta
from torch import nn

from foveate.config import from_dict, get_path, replace, set_path, to_dict
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.layers.drop import ScheduledDropPath
from foveate.layers.same import same_pads
from foveate.zoo.families.nasnet.blocks import (
    ActConvNorm,
    Block,
    CellWidths,
    FactorizedReduction,
    Genotype,
    Op,
    Place,
    Pool,
    make_op,
)
from foveate.zoo.families.nasnet.network import (
    NORMAL_A,
    REDUCTION_A,
    VARIANTS,
    NASNet,
    NASNetConfig,
    Stage,
    from_pytorchcv,
    from_timm,
    stack,
    stem_cells,
)

CIFAR, MOBILE, LARGE = (VARIANTS[f"nasnet_{form}"] for form in ("cifar", "mobile", "large"))
TINY = NASNetConfig(
    (Stage((CellWidths(4),)), Stage((CellWidths(4), CellWidths(6)))),
    stem="cifar",
    stem_width=6,
    num_classes=5,
    resolution=32,
)
# narrow nets with all cells of the large one, and with two normal cells a stage
NARROW = NASNetConfig(
    stack(6, 192), stem_width=12, stem_cells=stem_cells(8), skip_reduction_input=True, num_classes=11, dropout=0.0
)
SHORT = replace(NARROW, stages=stack(2, 192), skip_reduction_input=False, num_classes=1000)


def timm_net(padding):
    from timm.models.nasnet import NASNetALarge

    return NASNetALarge(num_classes=11, stem_size=12, num_features=192, pad_type="same" if padding == "same" else "")


def pytorchcv_net(skip):
    from pytorchcv.models.nasnet import get_nasnet

    net = get_nasnet(
        repeat=2,
        penultimate_filters=192,
        init_block_channels=12,
        final_pool_size=1,
        extra_padding=not skip,
        skip_reduction_layer_input=skip,
        in_size=(64, 64),
    )
    net.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return net


def exclude_padding(model):
    """timm's SAME average pool with a stride counts the zeros that it pads (it says so); TensorFlow's does not."""
    for m in model.modules():
        if type(m).__name__ == "AvgPool2dSame":
            m.forward = lambda x, m=m: type(m).forward(m, x) / type(m).forward(m, torch.ones_like(x))
    return model


@pytest.mark.parametrize("size", [(64, 64), (75, 58)])
def test_timm_with_symmetric_padding_gives_the_same_outputs(size):
    ours = NASNet(replace(NARROW, padding="symmetric"))
    assert difference(ours, timm_net("symmetric"), from_timm, size=size) <= 1e-10


def test_timm_with_same_padding_gives_the_same_outputs_once_its_pools_leave_padding_out():
    assert difference(NASNet(NARROW), exclude_padding(timm_net("same")), from_timm, size=(64, 51)) <= 1e-10
    assert difference(NASNet(NARROW), timm_net("same"), from_timm, size=(64, 51)) > 1e-6


@pytest.mark.parametrize("size", [(64, 64), (64, 51)])
def test_timm_with_same_padding_is_a_config_away(size):
    ours = NASNet(replace(NARROW, count_padding=True))
    assert difference(ours, timm_net("same"), from_timm, size=size) <= 1e-10


@pytest.mark.parametrize(("skip", "size"), [(False, (64, 64)), (False, (64, 96)), (True, (75, 75))])
def test_pytorchcv_gives_the_same_outputs_at_the_sizes_it_is_made_for(skip, size):
    """It pads, computes and cuts, which is SAME padding where maps are even; at 75 pixels those that it pads alike are
    odd.
    """
    ours = NASNet(replace(SHORT, skip_reduction_input=skip))
    assert difference(ours, pytorchcv_net(skip), from_pytorchcv, size=size) <= 1e-10


def test_keys_of_timm_map_to_ours():
    assert sorted(shapes(timm_on_meta("nasnetalarge"), from_timm)) == sorted(shapes(on_meta(LARGE)))


@pytest.mark.parametrize(("config", "theirs"), [(MOBILE, "nasnet_4a1056"), (LARGE, "nasnet_6a4032")])
def test_keys_of_pytorchcv_map_to_ours(config, theirs):
    from pytorchcv.models import nasnet

    with torch.device("meta"):
        theirs = getattr(nasnet, theirs)().state_dict()
    assert {from_pytorchcv(k): v.shape for k, v in theirs.items()} == {
        k: v.shape for k, v in on_meta(config).state_dict().items()
    }


def test_renames_leave_our_keys_alone():
    keys = list(on_meta(replace(TINY, resolution=64, aux=True, stem_cells=(CellWidths(4),))).state_dict())
    assert [from_timm(k) for k in keys] == [from_pytorchcv(k) for k in keys] == keys


# --- the CIFAR form, which no other library has: counts above are a closed form over TF-Slim's tables


def test_the_cifar_form_has_18_normal_and_2_reduction_cells():
    cells = on_meta(CIFAR).cells()
    assert [i for i, cell in enumerate(cells) if cell.stride == 2] == [6, 13]
    assert len(cells) == 20
    assert [cell.width for cell in cells] == [192] * 6 + [256] + [384] * 6 + [512] + [768] * 6


def test_the_first_cell_without_one_before_it_reads_its_input_twice_and_leaves_state_1_as_it_is():
    first = on_meta(CIFAR).cells()[0]
    assert isinstance(first.previous, nn.Identity)
    assert first.blocks[0].right.dw1.in_channels == 96  # the stem's, not the cell's 32
    assert isinstance(first.fits[0], ActConvNorm)  # as an output it is brought to 32
    assert isinstance(first.fits[0].act, nn.Identity)


@pytest.mark.parametrize(
    ("config", "maps"),
    [
        (CIFAR, [(192, 32), (384, 16), (768, 8)]),
        (MOBILE, [(32, 15), (44, 8), (264, 4), (528, 2), (1056, 1)]),
    ],
)
def test_feature_maps_are_one_a_stride_finest_first(config, maps):
    model, x = on_meta(config).eval(), torch.empty(1, 3, 32, 32, device="meta")
    assert [(m.shape[1], m.shape[2]) for m in model.feature_maps(x)] == maps
    assert model.forward_features(x).shape[1:] == (model.num_features, maps[-1][1], maps[-1][1])
    assert model.forward_head(model.forward_features(x)).shape == (1, config.num_classes)


@pytest.mark.parametrize("skip", [False, True])
def test_what_the_cells_around_a_reduction_read(skip):
    """The published nets differ: after a reduction the large one reads one cell further back."""
    made, read = [], []
    model = NASNet(replace(SHORT, skip_reduction_input=skip)).eval()
    for cell in model.cells():
        cell.register_forward_hook(lambda _, given, out: read.append(given) or made.append(out))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    # stem 0, stem 1, normal, normal, reduction, normal, normal, reduction, ...
    assert read[4][0] is made[3] and read[4][1] is made[2]
    assert read[5][0] is made[4] and read[5][1] is (made[2] if skip else made[3])
    assert read[6][0] is made[5] and read[6][1] is made[4]


# --- operations and cells


def place(filters=6, stride=1, padding="same"):
    return Place(Layers(), padding, filters, stride, 0.0, False)


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("op", get_args(Op))
def test_every_operation_gives_the_cells_filters_at_the_asked_size(op, padding):
    for c_in in (6, 4):
        for stride in (1, 2):
            made = make_op(op, place(padding=padding), c_in, stride, iter((5,)))
            for h, w in ((8, 9), (7, 3)):
                assert made(torch.randn(2, c_in, h, w)).shape == (2, 6, -(-h // stride), -(-w // stride))


def test_an_identity_is_one_only_where_nothing_changes():
    assert isinstance(make_op("identity", place(), 6, 1, iter(())), nn.Identity)
    assert isinstance(make_op("identity", place(), 4, 1, iter(())), ActConvNorm)
    assert isinstance(make_op("identity", place(), 6, 2, iter(())), ActConvNorm)


def test_the_two_sided_convolutions_see_a_cross_of_their_kernel():
    op = make_op("conv_1x7_7x1", place(1), 1, 1, iter((1,))).eval()
    assert (op.conv1.kernel_size, op.conv2.kernel_size) == ((1, 7), (7, 1))
    for conv in (op.conv1, op.conv2):
        nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, 15, 15)
    x[0, 0, 7, 7] = 1
    with torch.no_grad():
        seen = op(x)[0, 0].nonzero()
    assert (seen.amin(0).tolist(), seen.amax(0).tolist()) == ([4, 4], [10, 10])


def test_the_dilated_convolution_reaches_two_pixels_with_nine_taps():
    op = make_op("dil_3x3", place(1), 1, 1, iter(())).eval()
    nn.init.ones_(op.conv.weight)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    with torch.no_grad():
        seen = op(x)[0, 0].nonzero()
    assert sorted(set(seen.flatten().tolist())) == [2, 4, 6]
    assert len(seen) == 9


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (9, 6), (2, 1), (7, 12)])
def test_pools_look_at_the_pixels_of_tensorflows_windows_only(kind, kernel, stride, size):
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    pads = [same_pads(side, kernel, stride) for side in size]
    windows = F.pad(x, (*pads[1], *pads[0]), value=float("nan")).unfold(2, kernel, stride).unfold(3, kernel, stride)
    windows = windows.flatten(4)
    expected = windows.nanmean(-1) if kind == "avg" else windows.nan_to_num(float("-inf")).amax(-1)
    assert torch.allclose(Pool(kind, kernel, stride, "same")(x), expected, atol=1e-6)


def test_a_factorized_reduction_reads_even_pixels_and_odd_ones():
    reduction = FactorizedReduction(Layers(norm="none", act="none"), 1, 2)
    for conv in (reduction.conv1, reduction.conv2):
        nn.init.ones_(conv.weight)
    x = torch.arange(1.0, 16.0).view(1, 1, 3, 5)
    with torch.no_grad():
        y = reduction(x)
    assert y[0, 0].tolist() == [[1, 3, 5], [11, 13, 15]]
    assert y[0, 1].tolist() == [[7, 9, 0], [0, 0, 0]]


def test_operations_do_not_write_into_the_states_that_others_read():
    state = torch.randn(1, 6, 8, 8)
    before = state.clone()
    for op in get_args(Op):
        for stride in (1, 2):
            make_op(op, place(stride=stride), 6, stride, iter((6,)))(state)
    assert torch.equal(state, before)


def genotype(dice, blocks=5):
    """A random member of the search space."""
    ops = get_args(Op)

    def block(i):
        left, right = dice.randrange(i + 2), dice.randrange(i + 2)
        return Block(left, dice.choice(ops), right, dice.choice(ops), dice.choice(("add", "concat")))

    return Genotype(tuple(block(i) for i in range(blocks)))


@pytest.mark.parametrize("seed", range(12))
def test_any_genotype_builds_learns_and_survives_json(seed):
    dice = random.Random(seed)
    config = replace(
        TINY,
        normal=genotype(dice),
        reduction=genotype(dice),
        stages=(Stage((CellWidths(4),) * 2), Stage((CellWidths(5),) * 3), Stage((CellWidths(1), CellWidths(4)))),
        stem_cells=(CellWidths(3),) * (seed % 2),
        skip_reduction_input=seed % 3 == 0,
        padding=dice.choice(("same", "symmetric")),
    )
    torch.manual_seed(seed)
    model = NASNet(config).train()
    y = model(torch.randn(3, 3, 22, 17))
    y.square().sum().backward()
    assert y.shape == (3, 5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert from_dict(NASNetConfig, to_dict(config)) == config


def test_states_that_nobody_reads_are_the_output_unless_others_are_named():
    cell = Genotype((Block(0, "identity", 0, "max_3x3"), Block(2, "sep_3x3", 0, "identity", "concat")))
    assert cell.unread == (1, 3)
    assert cell.width(8) == 8 + 16
    assert NORMAL_A.width(8) == 48
    assert REDUCTION_A.width(8) == 32


@pytest.mark.parametrize(
    ("blocks", "outputs", "message"),
    [
        ((Block(0, "identity", 2, "identity"),), (), "blocks.0.right = 2: at most 1"),
        ((Block(0, "identity", 1, "identity"),), (3,), "outputs"),
        ((Block(0, "identity", 1, "identity"),), (2, 1), "rising"),
        ((Block(0, "identity", 0, "identity"),), (2,), "nothing reads state 1"),
        ((), (), "blocks"),
    ],
)
def test_a_genotype_that_can_not_be_is_refused(blocks, outputs, message):
    with pytest.raises(ConfigError, match=message):
        Genotype(blocks=blocks, outputs=outputs)


def test_inner_widths_are_free_in_every_operation_of_two_convolutions():
    assert NORMAL_A.doubles == REDUCTION_A.doubles == 5
    config = set_path(TINY, "stages.0.cells.0.mid", (3, 5, 7, 9, 11))
    model = NASNet(config).eval()
    blocks = model.stages[0][0].blocks
    ops = [blocks[0].left, blocks[0].right, blocks[1].left, blocks[1].right, blocks[4].left]
    assert [op.pw1.out_channels for op in ops] == [3, 5, 7, 9, 11]
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


# --- training


def test_drop_path_grows_with_the_cell_and_spares_identities():
    model = on_meta(replace(LARGE, drop_path=0.3))
    cells = model.cells()
    rates = [{m.rate for m in cell.modules() if isinstance(m, ScheduledDropPath)} for cell in cells]
    assert [round(rate.pop(), 6) for rate in rates] == [round(0.3 * i / 22, 6) for i in range(1, 23)]
    per_cell = [sum(isinstance(m, ScheduledDropPath) for m in cell.modules()) for cell in cells]
    assert set(per_cell) == {8, 9}  # of 10 operations two are identities in a normal cell, one in a reduction cell
    assert not any(isinstance(m, ScheduledDropPath) for m in on_meta(MOBILE).modules())


def test_drop_path_is_scheduled_by_progress():
    model = NASNet(replace(TINY, drop_path=0.5, layers=Layers(norm="none"))).train()
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    full = model.eval()(x)
    model.train().dropout.eval()
    model.set_progress(0.0)
    assert torch.allclose(model(x), full, atol=1e-6)
    model.set_progress(1.0)
    assert not torch.allclose(model(x), full, atol=1e-3)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        model.set_progress(1.5)


def test_progress_stands_in_no_state_dict():
    plain, dropping = NASNet(TINY).state_dict(), NASNet(replace(TINY, drop_path=0.5)).state_dict()
    assert plain.keys() == dropping.keys()


def test_pictures_are_dropped_at_the_rate_and_the_mean_stays():
    torch.manual_seed(0)
    drop = ScheduledDropPath(0.5).train()
    drop.progress.fill_(0.5)
    y = drop(torch.ones(4000, 2, 3, 3)).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (y[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(drop.eval()(y), y)


@pytest.mark.parametrize(("config", "side"), [(CIFAR, 4), (MOBILE, 4), (LARGE, 6)])
def test_the_auxiliary_head_covers_the_map_before_the_second_reduction(config, side):
    model = on_meta(replace(config, aux=True)).eval()
    x = torch.empty(2, 3, config.resolution, config.resolution, device="meta")
    logits, (aux,) = model.forward_aux(x)
    assert logits.shape == aux.shape == (2, config.num_classes)
    assert model.aux_head.conv2.kernel_size == (side, side)
    assert model(x).shape == logits.shape


def test_the_auxiliary_head_learns_and_changes_no_logits():
    config = replace(TINY, aux=True)
    torch.manual_seed(0)
    model = NASNet(config).train()
    logits, (aux,) = model.forward_aux(torch.randn(4, 3, 32, 32))
    (logits.square().sum() + 0.4 * aux.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    without = NASNet(TINY).eval()
    without.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("aux_head.")})
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(without(x), model.eval()(x))
    assert without.forward_aux(x)[1] == []


def test_initial_weights_have_the_official_spread():
    torch.manual_seed(0)
    model = NASNet(replace(SHORT, stages=stack(2, 480)))
    last = model.stages[2][2]
    assert last.current.conv.weight.var().item() == pytest.approx(2 / 80, rel=0.05)
    assert last.blocks[0].left.dw1.weight.var().item() == pytest.approx(2 / 25, rel=0.1)
    assert model.fc.weight.var().item() == pytest.approx(2 / 1000, rel=0.05)
    assert model.fc.weight.abs().max().item() < 2 * (2.6 / 1000) ** 0.5
    assert not model.fc.bias.any()


def test_a_stage_can_have_layers_of_its_own():
    model = on_meta(set_path(TINY, "stages.1.layers", Layers("group_norm(groups=2)", "prelu", "eca")))
    assert isinstance(model.stages[1][0].current.bn, nn.GroupNorm)
    assert isinstance(model.stages[1][1].current.act, nn.PReLU)
    assert isinstance(model.stages[0][0].current.bn, nn.BatchNorm2d)
    assert isinstance(model.stages[0][0].attn, nn.Identity)


@pytest.mark.parametrize("resolution", [32, 33, 47, 96])
def test_the_imagenet_form_runs_at_any_size(resolution):
    maps = on_meta(SHORT).eval().feature_maps(torch.empty(1, 3, resolution, resolution + 7, device="meta"))
    assert maps[0].shape[2] == (resolution - 1) // 2
    assert all(b.shape[2] == (a.shape[2] + 1) // 2 for a, b in pairwise(maps))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.0.cells.0.filters", 0),
        ("stages.0.cells.0.mid", (3,)),
        ("stages.0.cells", ()),
        ("normal.blocks.0.left_op", "sep_9x9"),
        ("normal.blocks.0.left", 2),
        ("reduction.outputs", (9,)),
        ("drop_path", 1.0),
        ("stem", "tiny"),
        ("stages", ()),
    ],
)
def test_a_config_that_can_not_be_is_refused(path, value):
    get_path(TINY, path)
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        set_path(TINY, path, value)


def test_an_auxiliary_head_needs_a_map_of_five_pixels():
    with pytest.raises(ConfigError, match=r"aux = True: the map before the last reduction has 4 pixels"):
        replace(TINY, aux=True, resolution=4)


def test_a_skipped_reduction_needs_a_normal_cell_behind_it():
    stages = (TINY.stages[0], Stage((CellWidths(4),)), TINY.stages[1])
    assert NASNet(replace(TINY, stages=stages))(torch.zeros(1, 3, 16, 16)).shape == (1, 5)
    with pytest.raises(ConfigError, match="skip_reduction_input"):
        replace(TINY, stages=stages, skip_reduction_input=True)


def test_a_million_operations_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="at most 4,096"):
        replace(TINY, stages=(Stage((CellWidths(4),) * 512),) * 16)
