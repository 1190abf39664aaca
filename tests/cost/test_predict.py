"""foveate.cost.predict: a table of operators adds up, goes between what it knows, and is kept as JSON."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from foveate.config import from_json, to_dict, to_json
from foveate.cost.calibrate import HALF_TICK_US, VISIT, Case, Node, matched, node_times
from foveate.cost.operators import Operator, operators
from foveate.cost.predict import Rate, Row, Table, load_table, make_table, predict_latency_us, table_path
from foveate.cost.specimens import specimens
from foveate.errors import ConfigError
from foveate.files import write_json
from foveate.zoo import variant


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.dw = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        y = nn.functional.silu(self.dw(x)) + x
        return self.head(y.mean((2, 3)))


CONV = Operator("conv", 3, 16, 16, 16, 3, 2, 1)
DW = Operator("conv", 16, 16, 16, 16, 5, 1, 16)
HEAD = Operator("linear", 16, 10, 1, 1)


def table(rows, rates=(), **fields):
    facts = {"runtime": "onnxruntime 1", "threads": 1, "device": "d", "run_us": 0.0, "picture_us": 0.0, "networks": 1}
    made = tuple(Row(**op._asdict(), us=us) for op, us in rows.items())
    return Table(rows=made, rates=tuple(rates), **{**facts, **fields})


def test_the_operators_of_a_module_are_read_with_norms_and_clamps_fused():
    found = operators(Small(), 32)
    assert [op.kind for op in found] == ["conv", "conv", "silu", "add", "mean", "linear"]
    assert (found[0], found[1], found[5]) == (CONV, DW, HEAD)
    assert [found[0].macs, found[1].macs, found[5].macs] == [9 * 3 * 16 * 256, 25 * 16 * 256, 160]


@pytest.mark.parametrize("name", ["mnasnet_a1", "resnet18", "regnety_002"])
def test_their_multiply_adds_are_those_of_the_flop_counter(name):
    from torch.utils.flop_counter import FlopCounterMode

    from foveate.zoo import build

    with torch.device("meta"):
        net, x = build(variant(name)).eval(), torch.empty(1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    assert sum(op.macs for op in operators(variant(name), 64)) == counter.get_total_flops() // 2


def test_known_operators_add_up_to_the_last_digit():
    rates = [Rate("silu", 1.0, 2.0), Rate("add", 0.5, 0.0), Rate("mean", 0.0, 4.0)]
    known = table({CONV: 100.0, DW: 50.0, HEAD: 7.0}, rates, run_us=11.0, picture_us=3.0)
    silu, mean = 1.0 + 2.0 * 2 * 16 * 256 / 1e4, 4.0 * 17 * 256 / 1e4
    assert predict_latency_us(Small(), known, 32) == pytest.approx(
        100 + 50 + 7 + silu + 0.5 + mean + 11 + 3 * 1024 / 1e4
    )


def law(op):
    return 2.0 + op.macs / 5e3 + op.elements / 4e3


def grid(widths, sides):
    return [Operator("conv", a, b, s, s) for a in widths for b in widths for s in sides]


def test_between_known_sizes_a_smooth_law_is_found_within_five_percent_and_grows_with_the_width():
    known = table({op: law(op) for op in grid((16, 32, 64, 128, 256), (4, 8, 16, 32))})
    unknown = grid((48, 96, 192), (6, 12, 24))
    error = [known.operator_us(op) / law(op) - 1 for op in unknown]
    assert max(map(abs, error)) < 0.05
    for side in (6, 12, 24):
        line = [known.operator_us(Operator("conv", c, c, side, side)) for c in range(16, 257, 16)]
        assert all(a < b for a, b in itertools.pairwise(line))


def test_a_kind_that_nothing_was_measured_of_is_named_and_costs_as_the_middle_of_the_others():
    known = table({CONV: 1.0}, [Rate("add", 5.0, 1.0), Rate("mul", 0.0, 3.0)])
    strange = Operator("fft", 1, 1, 100, 100)
    assert known.operator_us(strange) == pytest.approx(2.0 * 2)
    assert known.strangers([strange, strange, CONV]) == {"fft": 2}


def test_a_table_of_a_known_law_is_made_again_from_whole_networks():
    rng, cases = np.random.default_rng(0), []
    for _ in range(12):
        convs = [grid((16, 32, 64), (8, 16))[i] for i in rng.integers(0, 18, 5)]
        adds = [Operator("add", 2 * c, c, 16, 16) for c in rng.integers(8, 64, 3).tolist()]
        side = int(rng.integers(32, 128))
        rest = 20.0 + 4.0 * side**2 / 1e4 + sum(3.0 + 2.0 * op.elements / 1e4 for op in adds)
        times = tuple((op, law(op)) for op in convs)
        cases.append(Case((*convs, *adds), side**2, times, sum(t for _, t in times) + rest))
    made = make_table(cases, runtime="r", threads=1, device="d")
    assert made.picture_us == pytest.approx(4.0, rel=1e-3)
    assert made.rates[0].elements_us == pytest.approx(2.0, rel=1e-3)
    assert made.run_us + 3 * made.rates[0].call_us == pytest.approx(29.0, rel=1e-3)  # every network has three
    assert made.error < 0.05
    assert [made.latency_us(c.operators, c.pixels) for c in cases] == pytest.approx(
        [c.total_us for c in cases], rel=1e-3
    )


def test_nodes_of_a_profile_find_their_operators_by_padded_sizes():
    nodes = [
        Node("Conv", ((1, 16, 16, 16), (16, 1, 5, 5)), (1, 16, 16, 16), 4.0),  # depthwise, blocks of 16: as dense ones
        Node("Conv", ((1, 3, 32, 32), (16, 3, 3, 3)), (1, 16, 16, 16), 9.0),
        Node("Gemm", ((1, 16), (10,)), (1, 10), 2.0),
        Node("Conv", ((1, 16, 8, 8), (16, 16, 3, 3)), (1, 16, 8, 8), 5.0),  # is no operator of the network
        Node("Relu", ((1, 16),), (1, 16), 1.0),
    ]
    assert matched([CONV, DW, HEAD], nodes, 0.5) == ((DW, 2.0), (CONV, 4.5), (HEAD, 1.0))


def test_the_time_of_a_node_is_the_lower_quartile_of_its_warm_runs():
    durations = [90, 80] + [10] * (VISIT - 2) + [70, 60] + [20] * (VISIT - 2)
    shapes = {"input_type_shape": [{"float": [1, 3]}], "output_type_shape": [{"float": [1, 2]}]}
    log = [
        {"cat": "Node", "name": "n_kernel_time", "dur": us, "args": {"op_name": "Gemm", "node_index": "0", **shapes}}
        for us in durations
    ]
    assert node_times([{"cat": "Session", "name": "run"}, *log]) == [Node("Gemm", ((1, 3),), (1, 2), 10 + HALF_TICK_US)]


def test_a_small_network_is_measured_in_its_runtime_node_by_node():
    pytest.importorskip("onnxruntime")
    from foveate.cli.calibrate import exported
    from foveate.cost.calibrate import cases
    from foveate.zoo import build

    config = variant("resnet20_cifar")
    (case,) = cases([exported(config, 32)], rounds=2)
    convs = [op for op in case.operators if op.macs]
    assert len(case.times) == len(convs) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in build(config).modules())
    assert 0 < sum(us for _, us in case.times) < case.total_us


def test_a_table_reads_back_from_its_file_and_bad_ones_are_refused(tmp_path):
    known = table({CONV: 100.0, DW: 50.0}, [Rate("add", 0.5, 0.25)], error=0.06)
    write_json(tmp_path / "t.json", known)
    assert load_table(tmp_path / "t.json") == known == from_json(Table, to_json(known))
    with pytest.raises(ConfigError, match="no table of operators; measure one with: foveate profile --calibrate"):
        load_table(tmp_path / "none.json")
    (tmp_path / "old.json").write_text(json.dumps({**to_dict(known), "version": 2}))
    with pytest.raises(ConfigError, match="version"):
        load_table(tmp_path / "old.json")


def test_a_table_lies_in_the_cache_folder_and_an_unknown_runtime_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert table_path("onnxruntime", 2) == tmp_path / "foveate" / "latency-onnxruntime-2.json"
    with pytest.raises(ConfigError, match='runtime "tflite": no table can be measured; expected onnxruntime'):
        table_path("tflite", 1)


def test_the_networks_that_are_measured_follow_from_the_seed_and_are_not_large():
    first, again, other = specimens(1, 0), specimens(1, 0), specimens(1, 1)
    assert first == again and first[0] != other[0]
    assert all(sum(op.macs for op in operators(config, side)) <= 5e8 for config, side in first[:1])
    assert len(first) == 11
