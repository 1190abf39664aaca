"""Spaces of nets: published nets through them, sizes, equal nets, small pictures, a user's own file."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import counts, on_meta

from foveate.config import replace
from foveate.errors import ConfigError
from foveate.search import SPACES, load_space
from foveate.search.spaces import nasnet as cells
from foveate.search.spaces.strides import fitted
from foveate.zoo import build, variant
from foveate.zoo.families.mnasnet.network import scale

TABLES = ("nasbench201", "nasbench_macro")
ZOO = [name for name in SPACES if name not in TABLES]
A = "nasnet(outputs='free')"
# counts of trainable numbers and of multiply-adds of independent models: timm, pytorchcv, torchvision, closed forms
PUBLISHED = [
    ("mnasnet", "mnasnet_a1", 3_887_038, 311_579_072),
    ("mnasnet", "mnasnet_b1", 4_383_312, 314_415_872),
    ("mnasnet(skeleton='small')", "mnasnet_small", 2_030_264, 68_339_184),
    ("mixnet", "mixnet_s", 4_134_606, 239_173_360),
    ("mixnet(dropout=0.25)", "mixnet_m", 5_014_382, 339_172_672),
    ("mixnet(dropout=0.25)", "mixnet_l", 7_329_252, 555_251_792),
    ("efficientnet_base", "efficientnet_b0", 5_288_548, 385_814_752),
    ("nasnet(outputs='free', resolution=32, num_classes=10)", "nasnet_cifar", 3_346_538, 544_333_312),
    (A, "nasnet_mobile", 5_289_978, 563_638_816),
    ("nasnet(outputs='free', base='nasnet_large', resolution=331)", "nasnet_large", 88_753_150, 23_783_414_658),
    ("mobilenet(skeleton='fbnet')", "fbnet_c", 5_572_200, 384_960_160),
    ("resnet", "resnet18", 11_689_512, 1_814_073_344),
    ("resnet", "resnet50", 25_557_032, 4_089_184_256),
    ("resnet", "resnet50d", 25_576_264, 4_328_824_832),
    ("resnet", "resnext50_32x4d", 25_028_904, 4_230_479_872),
]
# e, k, l, se of seven blocks and millions of parameters: rows of Accel-NASBench (afzalxo/Accel-NASBench, Apache-2.0)
ACCEL = [
    ("6466611", "3535533", "1233222", "0000000", 2.50116),
    ("6166464", "3533355", "1321212", "0000000", 3.44436),
]


def rows_of(space, rows):
    """What the nets of some keys of a table cost; each is read back from its record."""
    space, found = load_space(space), {}
    for word in rows:
        net = space.parse(word)
        made = space.config(net)
        assert space.canonical(space.locate(made)) == space.canonical(net)
        found[word] = counts(on_meta(made), 32)
    return found


def nets(space, n, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(n)]


@pytest.mark.parametrize(("space", "name", "params", "macs"), PUBLISHED, ids=[row[1] for row in PUBLISHED])
def test_a_published_net_is_a_net_of_its_space(space, name, params, macs):
    space, wanted = load_space(space), variant(name)
    net = space.locate(wanted)
    made = space.config(space.encode(space.decode(net)))
    assert made == wanted and space.parse(space.text(net)) == net
    assert counts(on_meta(made), made.resolution) == (params, macs)


@pytest.mark.parametrize("name", ["mnasnet_a1", "mnasnet_b1"])
def test_the_canonical_form_of_a_published_net_costs_the_same(name):
    space = load_space("mnasnet")
    equal = space.config(space.canonical(space.locate(variant(name))))
    assert equal != variant(name) and counts(on_meta(equal), 224) == counts(on_meta(variant(name)), 224)


def test_published_multiples_of_a1_follow_from_its_genotype():
    space = load_space("mnasnet")
    a1 = space.config(space.locate(variant("mnasnet_a1")))
    assert counts(on_meta(scale(a1, 1.4)), 224) == (6_105_992, 586_317_952)
    assert counts(on_meta(scale(a1, 0.35)), 224) == (1_747_018, 61_681_920)


@pytest.mark.parametrize("row", ACCEL, ids=[row[0] for row in ACCEL])
def test_nets_of_accel_nasbench_have_their_published_parameters(row):
    space, (e, k, depth, se, millions) = load_space("efficientnet_base"), row
    filters = (16, 24, 40, 80, 112, 192, 320)
    values = {}
    for i in range(7):
        values |= {f"{i}.expand": int(e[i]), f"{i}.kernel": int(k[i]), f"{i}.se": se[i] == "1"}
        values |= {f"{i}.width": filters[i], f"{i}.depth": int(depth[i])}
    model = on_meta(space.config(space.encode(values)))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 5) == pytest.approx(millions, abs=1e-5)


def test_nets_of_the_macro_table_cost_what_it_says():
    rows = {"00000000": (387_882, 7_713_280), "11111111": (1_588_874, 53_246_464), "22222222": (2_932_586, 105_660_928)}
    rows |= {"22212220": (1_985_514, 85_164_544), "21010201": (1_228_714, 46_723_584)}
    rows |= {"00210020": (1_399_594, 36_950_528)}
    assert rows_of("nasbench_macro", rows) == rows


def test_nets_of_the_201_table_cost_what_it_says():
    rows = {"333333": (1_531_546, 220_119_680), "421211": (129_306, 15_647_360), "334131": (802_426, 113_951_360)}
    rows |= {"410001": (73_306, 7_783_040), "212304": (372_346, 51_036_800), "333123": (1_073_466, 153_272_960)}
    rows |= {"000000": (73_306, 7_783_040)}
    assert rows_of("nasbench201", rows) == rows


def test_layers_that_change_places_have_one_name():
    import networkx as nx

    space, moved = load_space("nas(layers=5)"), 0

    def graph(config):
        made = nx.DiGraph()
        for i, node in enumerate(config.nodes):
            made.add_node(i, kind=(node.width, node.kernel))
            made.add_edges_from((j, i) for j in node.inputs)
        return made

    for net in nets(space, 40):
        same, config = space.canonical(net), space.config(net)
        assert nx.is_isomorphic(graph(config), graph(space.config(same)), node_match=lambda a, b: a == b)
        for order in itertools.permutations(range(5)):  # every other way to write it down
            place = {old: new for new, old in enumerate(order)}
            if all(place[j] < place[i] for i, node in enumerate(config.nodes) for j in node.inputs):
                nodes = [(config.nodes[old], [place[j] for j in config.nodes[old].inputs]) for old in order]
                written = tuple(replace(node, inputs=tuple(sorted(inputs))) for node, inputs in nodes)
                assert space.canonical(space.locate(replace(config, nodes=written))) == same
                moved += 1
    assert moved > 80


def test_sizes_are_the_products_of_the_choices():
    assert load_space("nas(layers=15)").size == 64**15 * 2**105
    assert load_space("mnasnet").size == (4 * 2 * 2 * 3 * 3 * 3) ** 7 == 432**7
    assert load_space("nasnet").size == math.prod((2 + b) ** 2 * 13**2 * 2 for b in range(5)) ** 2
    assert load_space(A).size == load_space("nasnet").size * 2**12
    assert load_space("mobilenet").size == 4 * (2 * sum(9**d for d in (2, 3, 4))) ** 5
    assert load_space("mobilenet(widths=(0.5,))").size * 4 == load_space("mobilenet").size
    assert load_space("mobilenet(skeleton='fbnet')").size == 4 * 12**2 * (2 * sum(6**d for d in (1, 2, 3, 4))) ** 5
    row = 5 * 2 * 2 * 2
    assert load_space("mixnet").size == 3 * 2 * (3 * 2 * 3 * row * (1 + 3 * row)) ** 5
    assert load_space("efficientnet_base").size == 48**7 * (3 * 3 * 3 * 4 * 4 * 5 * 3)
    assert load_space("resnet").size == 3 * 2 * 2 * 2 * 3 * 2 * 2 * 5 * (4 * 6 * 8 * 4)


@pytest.mark.parametrize("name", ZOO)
def test_a_thousand_nets_come_back_from_their_words_and_records(name):
    space = load_space(name)
    for i, net in enumerate(nets(space, 1000)):
        assert space.encode(space.decode(net)) == net == space.parse(space.text(net))
        if i % 20 == 0:
            same = space.canonical(net)
            assert space.canonical(same) == same == space.check(same)
            assert space.canonical(space.locate(space.config(net))) == same


@pytest.mark.parametrize("name", ZOO)
def test_every_net_trains_on_small_pictures(name):
    shallow = ", n=1, penultimate=96" if name == "nasnet" else ""
    space = load_space(f"{name}(resolution=32, num_classes=5, in_chans=1{shallow})")
    for net in nets(space, 2, seed=3):
        torch.manual_seed(0)
        model = build(space.config(net)).train()
        x = torch.randn(4, 1, 32, 32)
        assert model.feature_maps(x)[-1].shape[-1] >= 4
        loss = torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))
        loss.backward()
        assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("resolution", [16, 64, 160])
def test_maps_keep_four_pixels(name, resolution):
    space = load_space(f"{name}(resolution={resolution})")
    model = on_meta(space.config(nets(space, 1, seed=resolution)[0]))
    with torch.device("meta"):
        assert model.feature_maps(torch.empty(1, 3, resolution, resolution))[-1].shape[-1] >= 4


def test_the_first_strides_go():
    assert fitted((2, 1, 2, 2, 2, 1, 2, 1), 32) == (1, 1, 1, 2, 2, 1, 2, 1)
    assert fitted((2, 1, 2, 2, 2, 1, 2, 1), 64) == (1, 1, 2, 2, 2, 1, 2, 1)
    assert fitted((2, 1, 2, 2, 2, 1, 2, 1), 128) == (2, 1, 2, 2, 2, 1, 2, 1)


def test_the_small_resnet18_has_the_parameters_that_everybody_quotes():
    space = load_space("resnet(resolution=32, num_classes=10)")
    values = {"block": "basic", "order": "post", "stem": "cifar", "shortcut": "conv", "attn": "none", "act": "relu"}
    values |= {"norm": "batch_norm", "width": 1.0, **{f"depth{i}": 2 for i in range(4)}}
    model = on_meta(space.config(space.encode(values)))
    assert counts(model, 32) == (11_173_962, 555_422_720)  # kuangliu/pytorch-cifar ResNet18


def closed_form(values, resolution, classes):
    """(parameters, MACs) of a net of the MnasNet space, from its tokens alone."""
    side, c = resolution // 2, 32
    params, macs = 27 * c + 2 * c, 27 * c * side**2
    for i, stride in enumerate((1, 2, 2, 2, 1, 2, 1)):
        v = {name: values.get(f"{i}.{name}") for name in ("op", "expand", "kernel", "se", "width", "depth")}
        for j in range(v["depth"]):
            k, out, before = v["kernel"] ** 2, v["width"], side
            side //= stride if j == 0 else 1
            mid = {"conv": out, "sepconv": c, "mbconv": (v["expand"] or 0) * c}[v["op"]]
            if v["op"] == "conv":
                params, macs = params + k * c * out + 2 * out, macs + k * c * out * side**2
            else:
                params += k * mid + 2 * mid + mid * out + 2 * out
                macs += (k * mid + mid * out) * side**2
            if v["op"] == "mbconv":
                params, macs = params + c * mid + 2 * mid, macs + c * mid * before**2
            if v["se"]:
                squeeze = c // 4
                params, macs = params + 2 * mid * squeeze + squeeze + mid, macs + 2 * mid * squeeze
            c = out
    return params + c * 1280 + 2 * 1280 + 1281 * classes, macs + c * 1280 * side**2 + 1280 * classes


def test_random_nets_of_the_mnasnet_space_cost_what_the_closed_form_says():
    space = load_space("mnasnet(num_classes=10)")
    for net in nets(space, 6):
        assert counts(on_meta(space.config(net)), 224) == closed_form(space.decode(net), 224, 10)


def test_equal_nets_of_the_mnasnet_space_compute_the_same():
    space, merged = load_space("mnasnet(resolution=32, num_classes=4)"), 0
    for net in nets(space, 30, seed=1):
        same = space.canonical(net)
        if same != net and merged < 4:
            a, b = build(space.config(net)).eval(), build(space.config(same)).eval()
            b.load_state_dict(a.state_dict())
            x = torch.randn(1, 3, 32, 32)
            with torch.no_grad():
                assert torch.equal(a(x), b(x))
            merged += 1
    assert merged == 4
    one = "0.skip"  # a layer of stride 1 and equal widths: a skip is not nothing
    values = space.decode(nets(space, 1)[0]) | {"0.width": 24, "0.depth": 1}
    words = {space.canonical(space.encode(values | {one: skip})) for skip in ("identity", "pool", "none")}
    assert len(words) == 1  # 32 -> 24 channels
    values = values | {"1.width": 24, "1.depth": 1}
    words = {space.canonical(space.encode(values | {"1.skip": skip})) for skip in ("identity", "pool", "none")}
    assert len(words) == 3


def test_the_mixnet_space_can_choose_how_kernels_are_mixed():
    space = load_space("mixnet(forms=True)")
    tried = 0
    for seed in range(40):
        tokens = space.sample(np.random.default_rng(seed))
        config = space.config(tokens)
        assert space.locate(config) == space.canonical(tokens)
        assert space.config(space.locate(config)) == config
        blocks = [b for s in config.stages for b in s.blocks]
        assert not any(b.dilated and b.stride > 1 for b in blocks)
        tried += any(b.dilated for b in blocks) and any(b.split == "exponential" for b in blocks)
    assert tried > 10
    row = 2 * 2 * 2 * (1 + 2 + 3 * 4)  # one kernel; two, dilated or not; three to five, in both splits
    first = 2 * 2 * 2 * (2 + 3 * 2)  # of stride 2
    ways = [first, first, first, row, first]
    expected = 3 * 2
    for way in ways:
        expected *= 3 * 2 * 3 * way * (1 + 3 * row)
    assert space.size == expected


def test_equal_widths_of_the_mixnet_space_have_one_name():
    space = load_space("mixnet")
    values = space.decode(nets(space, 1)[0])
    wide = values | {"width": 0.75, "0.width": 16, "1.width": 32, "2.width": 32 + 8}
    records = {space.config(space.canonical(net)) == space.config(net) for net in nets(space, 50)}
    assert records == {True}
    assert space.canonical(space.encode(wide)) == space.canonical(space.locate(space.config(space.encode(wide))))


def graph(cell, size=5):
    """A cell as a graph of states and operations."""
    import networkx as nx

    made = nx.DiGraph()
    made.add_node(0, kind="input"), made.add_node(1, kind="previous")
    for b in range(size):
        left, left_op, right, right_op, combine = cell[5 * b : 5 * b + 5]
        made.add_node(b + 2, kind=f"combine{combine}")
        for side, state, op in (("l", left, left_op), ("r", right, right_op)):
            made.add_node((b, side), kind=f"op{op}")
            made.add_edge(state, (b, side)), made.add_edge((b, side), b + 2)
    return made


def test_cells_have_one_name_exactly_where_their_graphs_are_isomorphic():
    import networkx as nx

    rng = np.random.default_rng(0)
    found = {True: 0, False: 0}
    for _ in range(300):
        cell = [int(rng.integers(n)) for b in range(5) for n in (2 + b, 2, 2 + b, 2, 2)]
        other = list(cell)
        b = int(rng.integers(4))  # two neighbours change places, and all that reads them follows
        other[5 * b : 5 * b + 10] = [*cell[5 * b + 5 : 5 * b + 10], *cell[5 * b : 5 * b + 5]]
        swap = {b + 2: b + 3, b + 3: b + 2}
        for i in range(25):
            if i % 5 in (0, 2):
                other[i] = swap.get(other[i], other[i])
        if any(other[5 * c + side] >= 2 + c for c in range(5) for side in (0, 2)):
            continue
        if rng.integers(2):
            other[5 * b + 1] = 1 - other[5 * b + 1]  # another operation
        same = nx.is_isomorphic(graph(cell), graph(other), node_match=lambda a, b: a["kind"] == b["kind"])
        assert same == (cells.canonical_cell(tuple(cell)) == cells.canonical_cell(tuple(other)))
        found[same] += 1
    assert min(found.values()) > 20


def test_a_kept_state_that_nothing_reads_is_no_other_net():
    space = load_space("nasnet(outputs='free', resolution=32)")
    values = space.decode(space.locate(replace(variant("nasnet_cifar"), num_classes=1000)))
    read = {values[f"normal.{b}.{side}"] for b in range(5) for side in ("left", "right")}
    unread = min(set(range(6)) - read)
    other = values | {f"normal.keep{unread}": True}
    assert space.canonical(space.encode(values)) == space.canonical(space.encode(other))
    assert space.config(space.encode(values)) == space.config(space.encode(other))


def test_cells_are_restacked():
    space = load_space("nasnet(n=2, penultimate=96, resolution=32, num_classes=10, outputs='free')")
    cell = space.locate(replace(cells.restack(variant("nasnet_cifar"), 2, 96)))
    assert cells.restack(space.config(cell), 6, 768) == variant("nasnet_cifar")
    with pytest.raises(ConfigError, match="at least 1 cell"):
        cells.restack(space.config(cell), 0, 96)


@pytest.mark.parametrize(
    ("space", "name", "says"),
    [
        ("mnasnet", "mnasnet_small", "none of its nets"),
        ("mnasnet", "resnet18", "none of its nets"),
        ("nasnet", "nasnet_mobile", "normal is"),
        ("resnet", "resnet20_cifar", "none of its nets"),
        ("mixnet", "mixnet_m", "dropout is 0.25, in the space 0.2"),
    ],
)
def test_a_net_of_another_space_is_refused(space, name, says):
    with pytest.raises(ConfigError, match=says):
        load_space(space).locate(variant(name))


MINE = """
from foveate.search.space import Choice, Space
from foveate.zoo import variant

def space():
    return Space([Choice("stages.0.stride", (1, 2)), Choice("layers.act", ("relu", "silu"))], base=variant("resnet18"))
"""


def test_a_users_own_file_is_a_space(tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(MINE)
    space = load_space(str(path))
    made = space.config(space.encode({"stages.0.stride": 2, "layers.act": "silu"}))
    assert (made.stages[0].stride, made.layers.act) == (2, "silu")
    assert space.decode(space.locate(variant("resnet18"))) == {"stages.0.stride": 1, "layers.act": "relu"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spaec = 1", "it has no function space"),
        ("def space():\n    return 3", "returned a int"),
        ("def space():\n    return 1 / 0", r"ZeroDivisionError: division by zero \(line 2\)"),
        ("def space(:\n", "SyntaxError"),
        ("import nothing_of_that_name\n", r"No module named 'nothing_of_that_name' \(line 1\)"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_said_in_one_line(tmp_path, text, says):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_space(str(path))
    assert "\n" not in str(caught.value) and "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none.py", "no such file"),
        ("mnasnett", "did you mean mnasnet"),
        ("mnasnet(colour=3)", "colour"),
        ("mnasnet(skeleton='large')", "skeleton"),
        ("nasnet(base='nasnet')", "expected one of nasnet_cifar"),
        ("resnet(resolution=0)", "resolution"),
        ("nas(layers=0)", "1 to 64 layers"),
    ],
)
def test_an_unknown_space_or_option_is_named(text, says):
    with pytest.raises(ConfigError, match=says):
        load_space(text)


def test_sizes_on_the_page_are_those_of_the_spaces():
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:([\d.]+) x 10\^(\d+)|([\d,]+)) \|", page, re.M)
    assert len(rows) == 8
    for name, digits, power, whole in rows:
        size = SPACES[name]().size
        assert (
            f"{size:.1e}" == f"{float(digits):.1f}e+{int(power):02d}" if digits else size == int(whole.replace(",", ""))
        )
    assert "nas(layers=15)`, as long as the paper's: 5.0 x 10^58" in page
    assert f"{SPACES['nas'](layers=15).size:.1e}" == "5.0e+58"


THUMBNAILS = ("airbench94_cifar", "airbench95_cifar", "airbench_medium_cifar", "airbench_small_cifar", "wrn16_8_cifar")


@pytest.mark.parametrize("name", THUMBNAILS)
def test_published_nets_for_thumbnails_are_nets_of_their_space(name):
    space = load_space("thumbnail")
    assert space.config(space.locate(variant(name))) == variant(name)


def test_the_thumbnail_space_has_no_plain_nets_below_16_pixels_and_shortcuts_over_one_convolution_are_none():
    assert load_space("thumbnail(resolution=8)").choices[0].values == ("residual", "wide", "inverted")
    space = load_space("thumbnail")
    values = space.decode(space.locate(variant("airbench94_cifar"))) | {f"depth{i}": 1 for i in range(3)}
    assert space.canonical(space.encode({**values, "shortcut": True})) == space.encode({**values, "shortcut": False})
    assert space.config(space.encode({**values, "shortcut": True})).groups[0].residual is False
