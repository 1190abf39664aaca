"""foveate.deploy.quantise: int8 files are standard ONNX, close to the float file, and refuse what they should."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import TINY

from foveate.config import replace
from foveate.data.preprocess import Preprocess, normalise, prepare
from foveate.deploy import processor
from foveate.deploy.compare import generated
from foveate.deploy.export import export_for_timing
from foveate.deploy.quantise import damages, quantise, ready
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError, DataError
from foveate.zoo import build, variant

CLASSES = ("0", "1", "2", "3")
P = Preprocess(resolution=32, resize=36)


def lively(config):
    """A network whose logits differ from picture to picture, as those of a trained one do."""
    torch.manual_seed(0)
    model = build(replace(config, num_classes=len(CLASSES)))
    pictures = np.stack([prepare(p, P) for p in generated(32)])
    with torch.no_grad():
        x = normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2), P)
        model.train()
        for _ in range(30):
            model(x)
        model.eval()
        logits = model(x)
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
        scale = logits.std(0)
        linear.weight /= scale[:, None]
        linear.bias.copy_((linear.bias - logits.mean(0)) / scale)
    return model


@pytest.fixture(scope="module")
def files():
    return {name: export_for_timing(lively(TINY[name]), P) for name in ("resnet", "efficientnet")}


@pytest.fixture(scope="module")
def pictures():
    return generated(24, seed=1)


@pytest.fixture(scope="module")
def int8(files, pictures):
    """Both files in int8, as this processor has them."""
    return {name: quantise(data, pictures, min_agreement=0) for name, data in files.items()}


def logits_of(data, pictures):
    session = open_session(data)
    return np.concatenate([session.run(p[None]) for p in pictures])


@pytest.mark.parametrize("name", ["resnet", "efficientnet"])
def test_int8_answers_almost_as_float_and_stays_one_standard_file(files, int8, pictures, name):
    made = int8[name]
    exact, got = logits_of(files[name], pictures), logits_of(made.data, pictures)
    cosine = (exact * got).sum() / np.linalg.norm(exact) / np.linalg.norm(got)
    assert cosine > 0.99 and made.excluded == () and made.n == len(pictures)
    # a bit less doubles the rounding of weights, so the error of logits, to which changes of class are proportional, at
    # most doubles too
    least = 1 - 0.2 * 2 ** (8 - processor.bits_here())
    assert made.agreement == (exact.argmax(1) == got.argmax(1)).mean() > least
    assert made.logit_error == pytest.approx(np.sqrt(((exact - got) ** 2).mean() / (exact**2).mean()), rel=1e-4)
    model = onnx.load_from_string(made.data)
    onnx.checker.check_model(model, full_check=True)
    assert [o.domain for o in model.opset_import] == [""]
    session = open_session(made.data)
    assert session.classes == CLASSES and session.preprocess == P and session.metadata["precision"] == "int8"


def weights_of(data):
    """The signed bytes of a file, by name."""
    graph = onnx.load_from_string(data).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    return {name: t for name, t in stored.items() if t.dtype == np.int8 and t.ndim > 1}


def pairs_overflow(levels):
    """Whether two products of unsigned bytes with these can leave 16 bits, as x86 without VNNI sums them (vpmaddubsw).

    Which two are paired depends on how a runtime packs them, so any two may be.
    """
    low, high = np.sort(levels.astype(np.int64), axis=None)[[0, 1, -2, -1]].reshape(2, 2).sum(1)
    return 255 * low < -(2**15) or 255 * high > 2**15 - 1


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("name", ["resnet", "efficientnet"])
def test_only_weights_of_eight_bits_ask_for_vnni(files, pictures, monkeypatch, name, bits):
    monkeypatch.setattr(processor, "sums_bytes_whole", lambda: bits == 8)
    made = quantise(files[name], pictures, min_agreement=0)
    weights = weights_of(made.data)
    assert len(weights) > 5
    if bits == 7:
        assert not any(map(pairs_overflow, weights.values()))
    else:
        assert all(map(pairs_overflow, weights.values()))
    session = open_session(made.data)
    assert session.metadata["int8_weights"] == processor.HOLDS[bits]
    # not fused to integer kernels, the same numbers on every processor
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole = onnxruntime.InferenceSession(made.data, options, providers=["CPUExecutionProvider"])
    got = np.concatenate([whole.run(["logits"], {"image": p[None]})[0] for p in pictures])
    exact = logits_of(files[name], pictures)
    assert (exact * got).sum() / np.linalg.norm(exact) / np.linalg.norm(got) > 0.99
    monkeypatch.setattr(processor, "sums_bytes_whole", lambda: False)
    if bits == 7:
        open_session(made.data)
    else:
        with pytest.warns(UserWarning, match=r"ONNX bytes: int8 weights of 8 bits, and this processor has no VNNI"):
            open_session(made.data)


def test_weights_of_seven_bits_are_summed_exactly_by_this_processor(files, pictures):
    """Whatever it is: the integer kernels answer what float arithmetic on the same numbers does, but for rounding."""
    data = quantise(files["resnet"], pictures, min_agreement=0, bits=7).data
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    expected = np.concatenate([whole.run(["logits"], {"image": p[None]})[0] for p in pictures])
    got = logits_of(data, pictures)
    assert (got * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected) > 0.999


def test_every_convolution_is_int8_per_channel_and_the_preprocessing_is_not(files, int8):
    graph = onnx.load_from_string(int8["resnet"].data).graph
    makers = {out: node for node in graph.node for out in node.output}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 5
    for node in convolutions:
        x, weight = (makers[name] for name in node.input[:2])
        assert x.op_type == weight.op_type == "DequantizeLinear"
        levels, scale = stored[weight.input[0]], stored[weight.input[1]]
        assert levels.dtype == np.int8 and scale.shape == (levels.shape[0],)
        zero = stored[x.input[2]]
        assert zero.dtype == np.uint8
    before = {n.name: n for n in onnx.load_from_string(files["resnet"]).graph.node if n.name.startswith("image/")}
    assert len(before) > 8 and {n.name: n for n in graph.node if n.name in before} == before


def test_int8_weights_are_within_half_a_step_of_the_float_weights(files, int8):
    graph = onnx.load_from_string(int8["resnet"].data).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    exact = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(files["resnet"]).graph.initializer}
    found = 0
    for name, weight in exact.items():
        if weight.ndim == 4 and f"{name}_quantized" in stored:
            scale = stored[f"{name}_scale"].reshape(-1, 1, 1, 1)
            assert np.abs(stored[f"{name}_quantized"] * scale - weight).max() <= 0.5001 * scale.max()
            found += 1
    assert found > 5


def test_the_same_pictures_give_the_same_bytes(files, int8, pictures):
    assert quantise(files["efficientnet"], pictures, min_agreement=0).data == int8["efficientnet"].data


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_ways_to_calibrate(files, pictures, method):
    made = quantise(files["resnet"], pictures[:8], method=method, min_agreement=0)
    assert made.logit_error < 0.5
    assert made.data != quantise(files["resnet"], pictures[:8], min_agreement=0).data


def wide_weights(model):
    """One channel of a convolution's input is 4000 times as large as the rest, and hardly used after it."""
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        norms[0].weight[0] *= 4000
        norms[0].bias[0] *= 4000
        for convolution in convolutions[1:]:
            if convolution.in_channels == norms[0].num_features:
                convolution.weight[:, 0] /= 4000
    return model


def test_the_layers_that_hurt_stay_float():
    data = export_for_timing(wide_weights(lively(TINY["resnet"])), P)
    pictures = generated(40, seed=2)
    plain = quantise(data, pictures, min_agreement=0)
    assert plain.agreement < 0.95  # int8 can not hold that range
    said = []
    made = quantise(data, pictures, min_agreement=0.95, told=said.append)
    assert made.agreement >= 0.95 and made.excluded and made.logit_error < plain.logit_error and said
    alone = damages(data, pictures)
    assert list(made.excluded) == sorted(alone, key=lambda name: -alone[name])[: len(made.excluded)]
    kinds = {n.name: n for n in onnx.load_from_string(made.data).graph.node}
    makers = {out: n for n in kinds.values() for out in n.output}
    for name in made.excluded:  # its weights are stored as they were
        assert kinds[name].input[1] not in makers


def test_the_graphs_pixels_are_those_of_evaluation():
    picture = generated(1)[0]
    x = torch.from_numpy(prepare(picture, P)[None]).permute(0, 3, 1, 2)
    np.testing.assert_allclose(ready(picture, P), normalise(x, P).numpy(), atol=1e-5)


def test_bad_input_is_refused_in_one_line(files):
    with pytest.raises(DataError, match="calibrated on pictures, and none are given"):
        quantise(files["resnet"], [])
    with pytest.raises(DataError, match=r"float64 \(8, 8, 3\): expected uint8"):
        quantise(files["resnet"], [np.zeros((8, 8, 3))])
    with pytest.raises(ConfigError, match='method "max": expected one of minmax'):
        quantise(files["resnet"], generated(1), method="max")


def test_a_published_network_for_small_pictures_in_int8():
    data = export_for_timing(lively(variant("resnet20_cifar")), P)
    made = quantise(data, generated(32, seed=3), min_agreement=0.9)
    assert made.agreement >= 0.9 and len(made.data) < 0.4 * len(data)
