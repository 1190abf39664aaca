"""Forms of ResNets that experiments compare: plain nets, places of the gate, gates in some stages, stems and pools."""

import pytest
import torch
from compare import on_meta, picture
from torch import nn

from foveate.compress.couple import couple
from foveate.config import override, replace
from foveate.errors import ConfigError
from foveate.layers import Layers
from foveate.zoo import build, variant
from foveate.zoo.families.resnet.network import Stage, cifar, cifar_bottleneck, imagenet, plain, preact, tweaked

TINY = replace(cifar(2, (4, 6, 8)), stem_widths=(4,), num_classes=5)
DEEP = replace(cifar_bottleneck(1, (4, 6, 8), stem=4), num_classes=5)  # bottlenecks
GATED = replace(DEEP, layers=Layers(attn="se(ratio=0.5)"))


def drawn(config):
    """A network in float64 with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    model = build(config).double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.2)
    return model


def params(config):
    return sum(p.numel() for p in on_meta(config).parameters())


def test_a_plain_net_is_a_chain_of_convolutions_norms_and_relus():
    model = drawn(plain(TINY))
    y = x = picture(16)
    for conv, norm in zip(
        [m for m in model.modules() if isinstance(m, nn.Conv2d)],
        [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)],
        strict=True,
    ):
        y = norm(conv(y)).relu()
    assert torch.allclose(model(x), model.fc(y.mean((2, 3))), atol=1e-12)


@pytest.mark.parametrize("order", ["pre", "white", "white_pre"])
def test_in_no_order_a_plain_block_passes_its_input_on(order):
    config = replace(preact(TINY) if order == "pre" else replace(TINY, order=order), shortcut="none")
    model = drawn(config)
    nn.init.zeros_(model.layer2[1].conv2.weight)  # behind it nothing but what shortcuts carry is left
    a, b = (model.layer2(torch.randn(1, 4, 8, 8, dtype=torch.float64)) for _ in range(2))
    assert torch.equal(a, b)


def test_a_plain_net_loses_widths_like_any_other():
    found = couple(plain(TINY))
    assert {"stages.0.mid.0", "stages.1.width"} <= set(found.groups)


@pytest.mark.parametrize("changes", [{"zero_gamma": True}, {"drop_path": 0.1}, {"attn_at": "identity"}])
def test_a_plain_net_refuses_what_needs_a_shortcut(changes):
    with pytest.raises(ConfigError, match="shortcut"):
        replace(plain(TINY), **changes)


def gated(at):
    """A block with its gate at some place, and an input for it."""
    model = drawn(replace(GATED, attn_at=at))
    return model.layer2[0], torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2)).double()


def branch(block, x):
    y = block.bn1(block.conv1(x)).relu()
    return block.bn2(block.conv2(y)).relu()


def test_the_gate_stands_where_figure_5_of_the_paper_has_it():
    for at in ("branch", "pre", "post", "identity", "3x3"):
        block, x = gated(at)
        read = block.se(x) if at == "pre" else x
        y = branch(block, read)
        y = block.bn3(block.conv3(block.se(y) if at == "3x3" else y))
        short = block.downsample(x)
        y = (block.se(y) if at == "branch" else y) + (block.se(short) if at == "identity" else short)
        y = block.se(y.relu()) if at == "post" else y.relu()
        assert torch.allclose(block(x), y, atol=1e-12), at


def test_gates_have_the_width_of_what_they_read():
    added = {at: params(replace(GATED, attn_at=at)) - params(DEEP) for at in ("branch", "pre", "identity", "3x3")}

    def gate(c):
        return 2 * c * (c // 2) + c // 2 + c

    assert added["branch"] == added["identity"] == gate(16) + gate(32) + gate(64)
    assert added["pre"] == gate(4) + gate(16) + gate(32)
    assert added["3x3"] == gate(4) + gate(6) + gate(8)


def test_the_gate_at_the_3x3_of_resnet50_costs_what_the_paper_counts():
    """arXiv:1709.01507 table 15: 28.1 and 25.8 million parameters; without biases 25.7."""
    net = replace(imagenet(50), layers=Layers(attn="se"))
    assert round(params(net) / 1e6, 1) == 28.1
    assert params(replace(net, attn_at="3x3")) - params(imagenet(50)) == sum(
        depth * (2 * c * (c // 16) + c // 16 + c) for depth, c in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)
    )


def test_gates_can_stand_in_some_stages_only():
    base = replace(TINY, layers=Layers(attn="se(ratio=0.5)"))
    model = on_meta(override(base, ["attn_stages=2"]))
    assert {name for name, m in model.named_modules() if name.endswith(".fc1")} == {
        "layer2.0.se.fc1",
        "layer2.1.se.fc1",
    }
    own = replace(base.stages[0], layers=Layers(act="silu", attn="eca"))
    model = on_meta(replace(base, stages=(own, *base.stages[1:]), attn_stages=(2, 3)))
    assert isinstance(model.layer1[0].act1, nn.SiLU)
    assert isinstance(model.layer1[0].se, nn.Identity)


@pytest.mark.parametrize(
    ("base", "changes", "word"),
    [
        (TINY, {"attn_at": "3x3"}, "bottleneck"),
        (preact(TINY), {"attn_at": "post"}, "order"),
        (TINY, {"attn_stages": (4,)}, "stages 1 to 3"),
        (TINY, {"attn_stages": (0,)}, "attn_stages"),
        (replace(TINY, act_before_attn=True), {"attn_at": "pre"}, "act_before_attn"),
        (TINY, {"stem_widths": (4, 4, 8)}, "takes 1"),
        (tweaked(18, "c"), {"stem_widths": (4, 8)}, "takes 1 or 3"),
    ],
)
def test_a_form_that_can_not_be_is_refused(base, changes, word):
    with pytest.raises(ConfigError, match=word):
        replace(base, **changes)


def test_b_c_and_d_of_the_bag_of_tricks_are_single_fields():
    """stem=deep of one number is the published stem: widths 32, 32, 64."""
    a = variant("resnet50_caffe")
    b, c, d = (["stride_on=3x3", "stem=deep", "shortcut=avg"][: i + 1] for i in range(3))
    assert override(a, b) == variant("resnet50")
    for changes, name in ((c, "resnet50c"), (d, "resnet50d")):
        theirs, ours = on_meta(variant(name)), on_meta(override(a, changes))
        assert {k: t.shape for k, t in ours.state_dict().items()} == {
            k: t.shape for k, t in theirs.state_dict().items()
        }
    assert couple(override(TINY, ["stem=deep"])).config.stem_widths == (2, 2, 4)


def test_the_mean_after_the_stem_counts_no_padding():
    model = on_meta(replace(imagenet(18), pool="avg"))
    x = torch.ones(1, 3, 10, 10)
    assert torch.equal(model.maxpool(x), torch.ones(1, 3, 5, 5))
    assert model(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 1000)


def test_one_stage_of_another_width_is_a_plain_net_too():
    config = replace(TINY, stages=(Stage(4, (4,), 1), Stage(2, (3,))), shortcut="none")  # widths that shrink
    assert build(config)(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
