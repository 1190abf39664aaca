"""Latency beside a yardstick: a network's share of one whose latency is known."""

import pytest
import torch
from tiny import host

from foveate.data.preprocess import Preprocess
from foveate.deploy.beside import Yardstick, own_ms, scaled
from foveate.layers import Layers
from foveate.zoo import build, variant

P = Preprocess(resolution=32, resize=32, fit="squash")


def test_a_network_takes_as_long_as_itself_times_what_is_known():
    torch.manual_seed(0)
    model = build(variant("resnet20_cifar"))
    stick = Yardstick(model, P, 1, "onnxruntime", ms=7.0)
    timing = stick.time(model)
    assert timing.median_ms == pytest.approx(7.0, rel=0.3)
    assert timing.p10_ms <= timing.median_ms <= timing.p90_ms
    small = stick.time(build(host("resnet", Layers())))
    assert small.median_ms < 0.5 * timing.median_ms


def test_the_latency_of_the_yardstick_is_measured_where_it_is_not_known():
    stick = Yardstick(build(host("resnet", Layers())), P, 1, "onnxruntime")
    assert 0 < stick.ms < 1000


def test_own_time_is_the_processor_s_on_one_thread():
    stick = Yardstick(build(host("resnet", Layers())), P, 1, "onnxruntime", ms=2.0)
    timing = stick.time(build(host("resnet", Layers())))
    assert own_ms(timing, 1) == timing.cpu_ms and own_ms(timing, 2) == timing.median_ms
    twice = scaled(timing, 2 * timing.median_ms)
    assert twice.p90_ms == pytest.approx(2 * timing.p90_ms) and twice.cpu_ms == timing.cpu_ms
