"""MGIC: weight counts of the authors' code, and the properties that define a multigrid cycle over channels."""

import pytest
import torch
import torch.nn.functional as F
from compare import on_meta

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.zoo import variant
from foveate.zoo.families.mgic import VARIANTS, MGICBlock, MGICConfig, MGICNet, Stage, levels

TINY = MGICConfig((Stage(16, 1, 1), Stage(32, 2)), group=8, coarsest=8, stem="cifar", stem_width=8, num_classes=5)


def block(width, group, coarsest, **changes):
    stage = Stage(width, 1)
    return MGICBlock(MGICConfig((stage,), group=group, coarsest=coarsest, **changes), stage)


@pytest.mark.parametrize(
    ("width", "group", "coarsest", "weights"),
    [
        (64, 16, 16, 35_200),
        (128, 16, 16, 74_112),
        (256, 16, 16, 151_936),
        (512, 16, 16, 307_584),
        (256, 32, 32, 296_448),
        (512, 32, 32, 607_744),
        (512, 64, 64, 1_185_792),
    ],
)
def test_convolution_weights_of_a_block_equal_the_authors_code(width, group, coarsest, weights):
    with torch.device("meta"):
        made = block(width, group, coarsest)
    assert sum(p.numel() for p in made.parameters() if p.ndim == 4) == weights
    norms = sum(6 * w for w in levels(width, coarsest)) + 4 * (levels(width, coarsest)[-1] // 2)
    assert sum(p.numel() for p in made.parameters() if p.ndim == 1) == norms


def test_levels_halve_until_the_next_would_be_too_narrow():
    assert levels(64, 16) == [64, 32, 16]
    assert levels(16, 16) == [16]
    assert levels(512, 32) == [512, 256, 128, 64, 32]


def test_with_silent_smoothers_a_block_gives_back_what_is_not_negative():
    made = block(64, 16, 16).eval()
    for smoother in (*made.smooth, made.coarse):
        for conv in (smoother.branch1[0], smoother.conv2):
            torch.nn.init.zeros_(conv.weight)
    for transfer in (*made.restrict, *made.prolong):
        torch.nn.init.constant_(transfer[0].weight, 1 / 16)
    x = torch.rand(2, 64, 5, 4)
    with torch.no_grad():
        assert torch.equal(made(x), x)


def test_every_channel_reaches_every_other():
    """The union over inputs: single ones have dead activations. A grouped block alone has 1 / 4 of the entries."""
    torch.manual_seed(0)
    made = block(64, 16, 16).double().eval()
    met = torch.zeros(64, 64, dtype=torch.bool)
    for _ in range(6):
        x = torch.randn(1, 64, 3, 3, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda x: made(x)[0, :, 1, 1], x)
        met |= jacobian.abs().amax((1, 3, 4)) > 0
    assert met.double().mean() > 0.85


def test_a_pass_is_the_written_cycle():
    made = block(32, 8, 16).double().eval()
    x = torch.randn(2, 32, 4, 4, dtype=torch.float64)
    x1 = made.restrict[0](x)
    x2 = made.restrict[1](x1)
    y1 = made.smooth[1](x1 + made.prolong[1](made.coarse(x2) - x2))
    assert torch.equal(made(x), made.smooth[0](x + made.prolong[0](y1 - x1)))
    s = made.smooth[0]
    assert torch.equal(s(x), F.relu(x + s.bn2(s.conv2(F.relu(s.bn1(s.branch1(x)))))))


def test_transfers_start_as_means_or_kaiming():
    mean = MGICNet(replace(TINY, transfer="mean"))
    first = next(m for m in mean.modules() if isinstance(m, MGICBlock))
    assert (first.restrict[0][0].weight == 1 / 8).all() and first.smooth[0].conv2.weight.std() > 0
    other = next(m for m in MGICNet(replace(TINY, transfer="kaiming")).modules() if isinstance(m, MGICBlock))
    assert other.restrict[0][0].weight.std() > 0


def test_both_forms_train():
    mobile = replace(TINY, stages=(Stage(16, 1, 1, 2, 3), Stage(32, 1, 2, 3, 5)), transfer_norm=True, head=24)
    for config in (TINY, mobile):
        torch.manual_seed(0)
        model = MGICNet(config).train()
        F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_feature_maps_are_one_a_stride():
    maps = MGICNet(TINY).eval().feature_maps(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (32, 16, 16)]


def test_widths_must_halve_evenly():
    with pytest.raises(ConfigError, match=r"stages\.0\.width = 24"):
        MGICConfig((Stage(24, 1),), group=16, coarsest=8)
    with pytest.raises(ConfigError, match="odd"):
        Stage(32, 1, kernel=4)


def test_both_imagenet_nets_have_fewer_parameters_than_their_hosts():
    for ours, host in (("mgic_resnet50", "resnet50"), ("mgic_mobilenetv3", "mobilenetv3_large_100")):
        mine, theirs = (sum(p.numel() for p in on_meta(variant(name)).parameters()) for name in (ours, host))
        assert mine < theirs


def test_gates_keep_to_the_groups_of_their_smoother():
    config = VARIANTS["mgic_mobilenetv3"]
    smoother = on_meta(config).stages[5][1].smooth[0]
    assert (smoother.se.fc1.groups, smoother.se.fc1.in_channels) == (256 // 8, 256 * 6)
    other = on_meta(replace(config, gate_groups=False)).stages[5][1].smooth[0]
    assert other.se.fc1.groups == 1
