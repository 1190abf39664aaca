"""foveate.deploy.{graph,export,parity,measure}: the file gives the bytes of Pillow and the logits of torch."""

import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

import foveate
from foveate.config import from_json, replace
from foveate.data.preprocess import Preprocess, crop_box, normalise, prepare, resized_size
from foveate.deploy.export import export_for_timing, export_onnx
from foveate.deploy.graph import PIXELS, preprocess_graph
from foveate.deploy.measure import measure_latency
from foveate.deploy.parity import Parity, check_parity, require_parity
from foveate.deploy.runtime import open_session
from foveate.errors import ConfigError, DataError, FoveateError
from foveate.zoo import build, config_from, variant

CLASSES = ("plain", 'qu"ote, comma', "日本語", "naïve 🐈", "not utf-8 \udce9")
SIZES = [(64, 64), (1, 1), (7, 200), (200, 7), (63, 65), (100, 77), (331, 500), (36, 36), (37, 32)]  # height, width
KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(height, width, seed=0):
    """Waves and noise: smooth as photographs are, with every level in it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 110 * np.sin(x / rng.uniform(3, 40) + y / rng.uniform(3, 40) + c) for c in range(3)]
    return (np.stack(waves, 2) + rng.normal(0, 25, (height, width, 3))).clip(0, 255).astype(np.uint8)


def run_graph(p, pixels):
    """The preprocessing graph alone in onnxruntime: float32 (3, R, R)."""
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(preprocess_graph(p), opset_imports=[opset], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([PIXELS], {"image": pixels[None]})[0][0]


def as_bytes(x, p):
    """Normalised (3, R, R) back to levels (R, R, 3)."""
    x = x * np.array(p.std).reshape(3, 1, 1) + np.array(p.mean).reshape(3, 1, 1)
    levels = np.rint(x * 255)
    assert np.abs(levels - x * 255).max() < 1e-2
    return levels.astype(int).transpose(1, 2, 0)


def two_passes(pixels, p):
    """What Preprocess says, by Pillow: width, then height. In one call Pillow 13 may take them the other way round."""
    kernel, image = KERNELS[p.kernel], Image.fromarray(pixels)
    width, height = resized_size(*image.size, p)
    image = image.resize((width, image.height), kernel).resize((width, height), kernel)
    left, top, right, bottom = crop_box(width, height, p)
    out = np.full((bottom - top, right - left, 3), p.fill, np.uint8)
    part = np.asarray(image.crop((max(left, 0), max(top, 0), min(right, width), min(bottom, height))))
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out.astype(int)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_the_graph_gives_pillows_bytes_for_every_fit_and_kernel(fit, kernel):
    p = Preprocess(resolution=32, resize=37, fit=fit, kernel=kernel)
    for i, size in enumerate(SIZES):
        pixels = picture(*size, seed=i)
        difference = np.abs(as_bytes(run_graph(p, pixels), p) - two_passes(pixels, p))
        assert difference.max() <= 2 and (difference > 0).mean() < 0.02, (
            size,
            difference.max(),
            (difference > 0).mean(),
        )


def test_a_picture_of_the_right_size_goes_through_unchanged():
    p = Preprocess(resolution=32, resize=37)
    pixels = picture(37, 37)
    left, top, right, bottom = crop_box(37, 37, p)
    assert np.array_equal(as_bytes(run_graph(p, pixels), p), pixels[top:bottom, left:right].astype(int))


def test_the_graph_agrees_with_torchvisions_transforms():
    from torchvision.transforms import v2

    p = Preprocess(resolution=48, resize=56, kernel="bicubic")
    pixels = picture(120, 171)
    steps = [v2.Resize(56, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(48), v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(p.mean, p.std)]
    expected = v2.Compose(steps)(Image.fromarray(pixels)).numpy()
    assert np.abs(run_graph(p, pixels) - expected).max() < 1.1 / 255 / min(p.std)


def small(name, **changes):
    torch.manual_seed(0)
    model = build(replace(variant(name), num_classes=5, **changes))
    with torch.no_grad():  # running means and variances as after training, so that the logits are not all alike
        model.train()(torch.randn(16, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def resnet():
    return small("resnet18", resolution=64)


@pytest.fixture(scope="module")
def resnet_p():
    return Preprocess(resolution=64, resize=72)


@pytest.fixture(scope="module")
def resnet_file(resnet, resnet_p):
    return export_onnx(resnet, resnet_p, CLASSES, metadata={"run": "digits-1 \udce9"})


@pytest.fixture(scope="module")
def lite():
    return small("efficientnet_lite0", stages=variant("efficientnet_lite0").stages[:3], head=64, resolution=64)


PICTURES = [picture(*size, seed=i) for i, size in enumerate(SIZES)]


def test_an_exported_resnet_agrees_with_torch(resnet, resnet_p, resnet_file):
    parity = check_parity(resnet, resnet_p, open_session(resnet_file), PICTURES)
    require_parity(parity)
    assert (parity.n, parity.top1_agreement) == (len(PICTURES), 1.0)
    assert parity.net_abs_diff <= 1e-4 * parity.max_abs_logit
    assert parity.max_abs_diff <= 0.05 * parity.max_abs_logit


def test_an_exported_mobile_net_agrees_with_torch_for_a_letterbox(lite):
    p = Preprocess(resolution=64, resize=64, fit="letterbox", kernel="bilinear")
    parity = check_parity(lite, p, open_session(export_onnx(lite, p, CLASSES)), PICTURES)
    require_parity(parity)
    assert parity.net_abs_diff <= 1e-4 * parity.max_abs_logit


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_batch_gives_the_logits_of_its_pictures(resnet, resnet_p, resnet_file, batch):
    session = open_session(resnet_file)
    pixels = np.stack([picture(72, 72, seed=i) for i in range(batch)])
    expected = np.concatenate([session.run(one[None]) for one in pixels])
    np.testing.assert_allclose(session.run(pixels), expected, atol=1e-4)


def test_names_preprocessing_and_architecture_are_in_the_file(resnet, resnet_p, resnet_file):
    session = open_session(resnet_file)
    assert session.classes == CLASSES and session.preprocess == resnet_p
    facts = session.metadata
    assert config_from(json.loads(facts["architecture"])) == resnet.config
    assert (facts["foveate_version"], facts["run"]) == (foveate.__version__, "digits-1 \\udce9")
    assert from_json(Preprocess, facts["preprocess"]) == resnet_p
    assert onnxruntime.InferenceSession(resnet_file).get_modelmeta().custom_metadata_map == facts


def test_the_file_holds_its_weights_and_no_path_of_this_machine(resnet, resnet_file):
    model = onnx.load_from_string(resnet_file)
    assert not any(t.external_data for t in model.graph.initializer)
    assert not any(n.metadata_props or n.doc_string for n in model.graph.node)
    assert b"site-packages" not in resnet_file and foveate.__file__.encode() not in resnet_file
    weights = sum(p.numel() * 4 for p in resnet.parameters())
    assert weights * 0.99 < len(resnet_file) < weights * 1.02


def test_exporting_leaves_the_model_alone(lite):
    lite.train()
    before = {k: v.clone() for k, v in lite.state_dict().items()}
    flags = [getattr(m, "inplace", None) for m in lite.modules()]
    export_for_timing(lite, Preprocess(resolution=64, resize=64))
    assert lite.training and all(torch.equal(v, before[k]) for k, v in lite.state_dict().items())
    assert [getattr(m, "inplace", None) for m in lite.modules()] == flags
    lite.eval()


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5)).eval()


def test_exporting_says_nothing(plain, capfd):
    p = Preprocess(resolution=16, resize=16)
    export_onnx(plain, p, CLASSES)
    export_for_timing(plain, p)
    assert tuple(capfd.readouterr()) == ("", "")


def test_nothing_is_written_to_standard_output_where_the_older_exporter_fails(capfd):
    class Rooted(torch.nn.Module):
        def forward(self, x):
            return torch.special.i1e(x).mean((2, 3))  # an operator that the older exporter has not

    with pytest.raises(FoveateError):
        export_for_timing(Rooted(), Preprocess(resolution=8, resize=8))
    assert capfd.readouterr().out == ""


def test_the_file_for_timing_gives_the_same_logits_and_computes_its_padding_beforehand(lite):
    p = Preprocess(resolution=64, resize=64, fit="squash")
    data = export_for_timing(lite, p, batch=2)
    pixels = np.stack([picture(64, 64, seed=i) for i in range(2)])
    with torch.no_grad():
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(
            p.std
        ).view(3, 1, 1)
        expected = lite(x).numpy()
    np.testing.assert_allclose(open_session(data).run(pixels), expected, atol=1e-4 * max(1, np.abs(expected).max()))
    kinds = [n.op_type for n in onnx.load_from_string(data).graph.node]
    assert kinds.count("Shape") <= 1 and "Constant" not in kinds


def test_the_file_for_timing_pads_maps_of_odd_sides_as_torch_does():
    from foveate.zoo import build, variant

    torch.manual_seed(0)
    config = replace(variant("mnasnet_a1_035"), num_classes=3, resolution=72)  # maps of 36, 18, 9, 5 and 3 pixels
    model, p = build(config).eval(), Preprocess(resolution=72, resize=72, fit="squash")
    pixels = picture(72, 72)[None]
    with torch.no_grad():
        expected = model(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), p)).numpy()
    found = open_session(export_for_timing(model, p)).run(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_latency_is_measured_for_a_model_and_says_what_it_timed(lite):
    p = Preprocess(resolution=64, resize=72)
    latency = measure_latency(lite, p, threads=1, repeats=30, batch=2)
    assert latency.median_ms > 0 and latency.n >= 30 and (latency.threads, latency.batch) == (1, 2)
    assert latency.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert "2 x 72 x 72 x 3" in latency.input and "crop" in latency.input


def test_a_wrong_number_of_names_is_refused(plain):
    with pytest.raises(ConfigError, match="2 classes, but the model has 5 outputs"):
        export_onnx(plain, Preprocess(resolution=16, resize=16), ["a", "b"])


def test_a_model_that_can_not_be_exported_is_refused_in_one_line():
    class Branch(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

    with pytest.raises(FoveateError, match="Branch can not be exported to ONNX") as caught:
        export_onnx(Branch(), Preprocess(resolution=8, resize=8), ["a", "b", "c"])
    assert "\n" not in str(caught.value)


def test_a_network_that_gives_pictures_is_refused():
    with pytest.raises(FoveateError, match=r"Conv2d gives \(2, 4, 8, 8\) for 2 pictures: expected \(2, classes\)"):
        export_onnx(nn.Conv2d(3, 4, 1), Preprocess(resolution=8, resize=8), ["a"] * 4)


def test_a_network_for_other_pictures_is_refused():
    with pytest.raises(FoveateError, match="Conv2d does not run on 3 x 8 x 8: "):
        export_onnx(nn.Conv2d(5, 4, 1), Preprocess(resolution=8, resize=8), ["a"] * 4)


@pytest.fixture(scope="module")
def plain_session(plain):
    return open_session(export_onnx(plain, Preprocess(resolution=16, resize=16), CLASSES))


def test_a_file_with_other_weights_is_refused(plain, plain_session):
    p = plain_session.preprocess
    require_parity(check_parity(plain, p, plain_session, PICTURES))
    torch.manual_seed(1)
    other = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))
    with pytest.raises(FoveateError, match="the exported network's logits differ by"):
        require_parity(check_parity(other, p, plain_session, PICTURES))


def test_a_file_with_other_preprocessing_is_refused(plain, plain_session):
    p = replace(plain_session.preprocess, fit="letterbox")
    with pytest.raises(FoveateError, match="the exported file's logits differ by"):
        require_parity(check_parity(plain, p, plain_session, PICTURES))


def test_another_class_and_nan_are_refused():
    good = Parity(n=4, top1_agreement=1.0, max_abs_diff=0.0, net_abs_diff=0.0, max_abs_logit=1.0)
    require_parity(good)
    for bad in ({"top1_agreement": 0.75}, {"net_abs_diff": float("nan")}, {"max_abs_diff": float("nan")}):
        with pytest.raises(FoveateError):
            require_parity(dataclasses.replace(good, **bad))


def test_parity_needs_pictures_and_puts_the_mode_back(plain, plain_session):
    with pytest.raises(DataError, match="no pictures"):
        check_parity(plain, plain_session.preprocess, plain_session, [])
    plain.train()
    check_parity(plain, plain_session.preprocess, plain_session, PICTURES[:1])
    assert plain.training
    plain.eval()


def test_prepare_and_the_graph_agree_on_ordinary_pictures():
    p = Preprocess(resolution=32, resize=37)
    for pixels in (picture(120, 160), picture(90, 60)):
        assert np.abs(as_bytes(run_graph(p, pixels), p) - prepare(pixels, p).astype(int)).max() <= 2


def test_timing_falls_back_to_the_other_exporter(monkeypatch):
    def gone(*_):
        raise RuntimeError("the older exporter is gone")

    monkeypatch.setattr("foveate.deploy.export._by_script", gone)
    torch.manual_seed(0)
    model = build(replace(variant("resnet20_cifar"), num_classes=3)).eval()
    p = Preprocess(resolution=16, resize=16, fit="squash")
    pixels = picture(16, 16)[None]
    answer = open_session(export_for_timing(model, p)).run(pixels)
    with torch.inference_mode():
        expected = model(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), p)).numpy()
    assert np.abs(answer - expected).max() <= 1e-4
