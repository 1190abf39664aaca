"""What a model folder keeps of how far its answers hold: read back as it was, and refused where it is not."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors

import foveate as fv
from foveate.config import from_json, to_json
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, FoveateError, WeightsError
from foveate.files import write_folder
from foveate.train.artefact import KNOWN_FILE, ModelCard, load_model, model_files, read_card
from foveate.train.trusted import Known, Trust, known_bytes, known_from, limit_of
from foveate.zoo.tensors import tensor_bytes

TRUST = Trust("temperature", (0.5,), (0.0,), 30, keep=((0.9, 0.8), (0.95, 1.1)), sets=((0.9, 0.4), (0.99, None)))


def known(older: bool = False) -> Known:
    rng = np.random.default_rng(0)
    axes, features = rng.normal(size=(64, 4)).astype(np.float16), rng.normal(size=(12, 4)).astype(np.float16)
    usual = (np.linspace(0, 1, 5, dtype=np.float32), np.linspace(0, 0.5, 7, dtype=np.float32))
    return Known(axes, features, *usual, None if older else np.linspace(0, 6, 7, dtype=np.float32))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    net = fv.create_model("resnet20_cifar", num_classes=3)
    card = ModelCard(net.config, ("a", "b", "c"), Preprocess(resolution=32), {}, trust=TRUST, known=known())
    write_folder(tmp_path / "m", model_files(card, net.state_dict()))
    return tmp_path / "m"


def test_a_folder_gives_back_what_was_written(folder):
    _, card = load_model(folder)
    assert dataclasses.replace(card.trust, features_sha256=None) == TRUST
    for name, value in vars(known()).items():
        assert np.array_equal(getattr(card.known, name), value) and getattr(card.known, name).dtype == value.dtype
    assert from_json(Trust, to_json(card.trust)) == card.trust
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert model_files(card, load_model(folder)[0].state_dict()) == first  # equal input, equal bytes


def test_a_folder_without_it_loads_as_ever(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["trust"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / KNOWN_FILE).unlink()
    _, card = load_model(folder)
    assert card.trust is None and card.known is None
    assert "trust" not in json.loads(model_files(card, load_model(folder)[0].state_dict())["config.json"])


@pytest.mark.parametrize(
    "change",
    [
        {"scale": []},
        {"scale": [1, 2]},
        {"scale": [0.0]},
        {"scale": ["1"]},
        {"shift": [1, 2]},
        {"kind": "magic"},
        {"pictures": -1},
        {"keep": [[0.95, 1.0], [0.9, 1.1]]},
        {"keep": [[0.9, 1.0], [0.95, 0.5]]},
        {"keep": [[1.5, 1.0]]},
        {"sets": [[0.9, None], [0.95, 0.3]]},
        {"features_sha256": "abc"},
        {"more": 1},
    ],
)
def test_a_part_that_can_not_be_is_refused_by_name(folder, change):
    config = json.loads((folder / "config.json").read_text())
    config["trust"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FoveateError, match="trust"):
        read_card(folder)


def test_other_features_than_the_named_ones_are_refused(folder):
    whole = (folder / KNOWN_FILE).read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"not tensors"):
        (folder / KNOWN_FILE).write_bytes(damaged)
        with pytest.raises(WeightsError, match=KNOWN_FILE):
            load_model(folder)
    (folder / KNOWN_FILE).unlink()
    with pytest.raises(WeightsError, match=KNOWN_FILE):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("axes", np.zeros((64, 3), np.float16)),
        ("axes", np.zeros((64, 4), np.float32)),
        ("axes", np.full((64, 4), np.nan, np.float16)),
        ("features", np.zeros((5000, 4), np.float16)),
        ("features", np.zeros((0, 4), np.float16)),
        ("distances", np.array([1.0, 0.5], np.float32)),
        ("distances", np.array([1.0], np.float32)),
        ("doubts", np.zeros(5000, np.float32)),
        ("doubts", None),
    ],
)
def test_features_of_odd_sizes_are_refused_though_their_digest_is_right(folder, name, value):
    arrays = {key: array for key, array in vars(known()).items() if key != "usual"} | {name: value}
    data = tensor_bytes({key: torch.from_numpy(a.copy()) for key, a in arrays.items() if a is not None})
    (folder / KNOWN_FILE).write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["trust"]["features_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=KNOWN_FILE):
        load_model(folder)


def test_bytes_are_read_by_any_reader_of_safetensors():
    from safetensors.numpy import load

    again = known_from(load(known_bytes(known())), "bytes")
    assert np.array_equal(again.axes, known().axes)


def test_a_share_takes_the_next_limit_that_holds_it():
    assert limit_of(TRUST.keep, 0.92, "keep") == 1.1 and limit_of(TRUST.keep, 0.3, "keep") == 0.8
    assert limit_of(TRUST.sets, 0.95, "set") == np.inf
    for table, share in ((TRUST.keep, 0.97), ((), 0.5)):
        with pytest.raises(ConfigError, match="keep"):
            limit_of(table, share, "keep")


def test_an_older_file_has_no_sums_and_says_the_larger_rank():
    data = known_bytes(known(older=True))
    found = known_from(load_safetensors(data), "it")
    assert found.sums is None and known_bytes(found) == data
    far = np.random.default_rng(1).normal(size=(20, 64))
    ranks = [
        found.usual.strangeness(*pair)
        for pair in ((found.distance(far), np.ones(20)), (np.zeros(20), np.full(20, 0.7)))
    ]
    assert np.allclose(found.strangeness(far, np.full(20, 0.7)), np.maximum(*ranks))


def test_what_lies_beside_the_axes_is_far():
    """A feature whose part along the axes equals a known one's, and which points elsewhere: cosine calls it near."""
    axes = np.eye(64, 4, dtype=np.float16)
    base = np.eye(4, dtype=np.float16).repeat(3, 0)
    found = Known(axes, base, np.array([0.0, 0.1], np.float32), np.array([0.0, 0.1], np.float32))
    near, stranger = np.ones((1, 64)) * (np.arange(64) < 1), np.ones((1, 64)) * (np.arange(64) % 8 < 1)
    stranger[0, :4] = near[0, :4]
    few = dataclasses.replace(found, features=np.eye(4, dtype=np.float16)[:1].repeat(12, 0))
    assert few.distance(near)[0] == pytest.approx(0, abs=1e-3) and few.distance(stranger)[0] > 0.5
    assert found.distance(np.full((1, 64), np.nan))[0] == 2.0 and np.isfinite(found.distance(np.zeros((1, 64))))[0]
