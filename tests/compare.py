"""What the tests of all families share: published facts, random weights, the same weights in two networks, counts."""

import contextlib
import functools
import json
from pathlib import Path
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from foveate.zoo import build

COUNTER = "num_batches_tracked"


@functools.cache
def facts(family):
    """What is published of a family: tests/facts/FAMILY.json."""
    return json.loads((Path(__file__).parent / "facts" / f"{family}.json").read_text("utf-8"))


def on_meta(config):
    """The network of a config on the meta device, in evaluation mode."""
    with torch.device("meta"):
        return build(config).eval()


def timm_on_meta(name):
    import timm

    with torch.device("meta"):
        return timm.create_model(name)


def torchvision_on_meta(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        return get_model(name)


def shapes(model, rename=str):
    """(key, shape) of all weights in their order. rename: their key -> our key."""
    return [(rename(key), tensor.shape) for key, tensor in model.state_dict().items()]


def picture(height, width=None, *, count=2, channels=3):
    """Noise in float64, always the same: (count, channels, height, width or height)."""
    size = (count, channels, height, height if width is None else width)
    return torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def check_gradients(config, side=32, *, batch=4):
    """A finite gradient reaches every parameter."""
    torch.manual_seed(0)
    model = build(config).train()
    model(torch.randn(batch, 3, side, side)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def check_feature_maps(config, expected, *, last=False):
    """(channels, stride) of the feature maps of a net of stride 32; its features and its logits have their shapes.

    last: the features are the last map.
    """
    model, x = on_meta(config), torch.empty(1, 3, 64, 64, device="meta")
    maps, features = model.feature_maps(x), model.forward_features(x)
    assert [(m.shape[1], 64 // m.shape[2]) for m in maps] == expected
    assert features.shape == (1, model.num_features, 2, 2)
    assert not last or maps[-1].shape == features.shape
    assert model.forward_head(features).shape == (1, config.num_classes)


def check_last_map(config):
    """The last feature map holds the features, and these give the logits."""
    torch.manual_seed(0)
    model, x = build(config).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.feature_maps(x)[-1], model.forward_features(x))
        assert torch.equal(model(x), model.forward_head(model.forward_features(x)))


def randomise(model):
    """Random weights and random batch statistics, in float64, in evaluation mode; signals stay about 1."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.double().eval().state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
        elif tensor.is_floating_point():
            spread = 1.0 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator)).mul_(spread)  # drawn in float32: much faster
    return model


def in_order(ours, theirs):
    """The tensors of theirs under our names, matched by position; every shape must agree."""
    a = [k for k in ours.state_dict() if not k.endswith(COUNTER)]
    b = [(k, v) for k, v in theirs.state_dict().items() if not k.endswith(COUNTER)]
    assert len(a) == len(b)
    assert all(ours.state_dict()[name].shape == v.shape for name, (_, v) in zip(a, b, strict=True))
    return dict(zip(a, (v for _, v in b), strict=True))


def difference(ours, theirs, rename=None, *, size=(64, 64), channels=3, batch=2):
    """Same random weights, same picture: the largest difference of a logit, relative to the largest logit (at least 1).

    rename: their key -> our key; None: matched by position.
    """
    randomise(theirs)
    state = in_order(ours, theirs) if rename is None else {rename(k): v for k, v in theirs.state_dict().items()}
    missing, unexpected = ours.double().eval().load_state_dict(state, strict=False)
    assert not unexpected and all(k.endswith(COUNTER) for k in missing), (missing, unexpected)
    x = picture(*size, count=batch, channels=channels)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    assert b.abs().max() > 1e-3
    return ((a - b).abs().max() / max(1.0, b.abs().max().item())).item()


def difference_of(ours, theirs, *, side=64):
    """The largest difference of a logit of two networks, in evaluation mode, on noise; relative to the largest logit
    (at least 1)."""
    x = picture(side, side + 1, count=1)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    return ((a - b).abs().max() / max(1.0, b.abs().max().item())).item()


@contextlib.contextmanager
def without_norms():
    """Batch norms only look at the number of channels: they have no MACs and change no shape, and are slow on meta."""

    def same(x, mean=None, var=None, weight=None, bias=None, *args, **kwargs):
        assert all(t is None or t.shape == x.shape[1:2] for t in (mean, var, weight, bias)), x.shape
        return x

    with mock.patch.object(torch.nn.functional, "batch_norm", same):
        yield


def counts(model, resolution, channels=3):
    """(parameters, MACs of convolutions and linear layers) of a model on the meta device, batch 1."""
    with without_norms(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, channels, resolution, resolution, device="meta"))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
