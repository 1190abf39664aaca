"""Model folders: round trips, damage, and config files that ask for what they must not."""

import dataclasses
import functools
import json
import os
import resource
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.config import replace, set_path
from foveate.data.preprocess import Preprocess
from foveate.errors import ConfigError, WeightsError
from foveate.files import write_folder
from foveate.train.artefact import Metric, ModelCard, load_model, model_files, read_card
from foveate.zoo import build
from foveate.zoo.families.efficientnet.network import EfficientNetConfig, Stage

TINY = EfficientNetConfig((Stage(1, 8, 1, 3, 1), Stage(2, 16, 4, 3, 2)), stem=8, head=32, num_classes=3, resolution=32)
CARD = ModelCard(
    TINY,
    ("cat", "dog", "fox"),
    Preprocess(resolution=32, resize=36),
    {"model": "tiny", "data": "pets", "seed": 0, "lr": 0.5, "note": None},
    (Metric("accuracy", 0.912, 0.89, 0.931, n=500, split="test", data="pets", seed=0),),
)


def made(folder, card=CARD, seed=0):
    """Write a model folder and return its model."""
    torch.manual_seed(seed)
    model = build(card.architecture).eval()
    write_folder(folder, model_files(card, model.state_dict()))
    return model


def edited(folder, change):
    """Change the config.json of a model folder: change(data) edits or returns the plain data."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))


def test_a_model_folder_gives_back_the_same_card_and_the_same_logits(tmp_path):
    model = made(tmp_path / "m")
    loaded, card = load_model(tmp_path / "m")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert card == CARD
    assert not loaded.training
    assert loaded.config == TINY
    assert torch.equal(loaded(x), model(x))


def test_equal_models_give_equal_files():
    torch.manual_seed(0)
    state = build(TINY).state_dict()
    assert model_files(CARD, state) == model_files(CARD, {k: v.clone() for k, v in state.items()})


def test_a_pruned_network_with_uneven_widths_reloads(tmp_path):
    card = dataclasses.replace(CARD, architecture=set_path(TINY, "stages.1.mid", (20, 7)))
    model = made(tmp_path / "m", card)
    loaded, _ = load_model(tmp_path / "m")
    assert [b.conv_dw.out_channels for b in loaded.blocks[1]] == [20, 7]
    assert torch.equal(loaded(torch.ones(1, 3, 32, 32)), model(torch.ones(1, 3, 32, 32)))


def test_odd_class_names_survive(tmp_path):
    names = ('quote " comma ,\nnewline', "café e\u0301 \U0001f98a", "<script>alert(1)</script> | `x` [a](javascript:b)")
    made(tmp_path / "m", dataclasses.replace(CARD, classes=names))
    assert load_model(tmp_path / "m")[1].classes == names


def test_a_class_name_that_is_not_utf8_is_kept_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    made(tmp_path / "m", dataclasses.replace(CARD, classes=("a", "b", name), provenance={"data": name}))
    card = load_model(tmp_path / "m")[1]
    assert card.classes[2] == card.provenance["data"] == "caf\\udce9"


def test_the_card_in_markdown_says_what_was_measured_on_what(tmp_path):
    made(tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text()
    assert text.startswith("---\n") and "\n---\n\n# tiny\n" in text  # front_matter.py
    assert "- accuracy 0.912 (95 % interval 0.89 to 0.931), n = 500, test of pets, seed 0\n" in text
    assert "- data: pets\n" in text
    assert "- fox\n" in text


def test_the_card_in_markdown_holds_no_markup_from_names(tmp_path):
    names = ("<img src=x onerror=y>", "[a](javascript:b)", "# head\n\n- 1. list")
    text = model_files(dataclasses.replace(CARD, classes=names), build(TINY).state_dict())["README.md"].decode()
    assert "<" not in text
    assert "\n- \\[a\\](javascript:b)\n" in text
    assert "\n- \\# head  - 1. list\n" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("cat", "dog")}, "2 classes, but the architecture has 3"),
        ({"classes": ("cat", "cat", "dog")}, '"cat" stands twice'),
        ({"provenance": {"loss": float("nan")}}, "finite"),
        ({"provenance": {"list": [1, 2]}}, "provenance"),
    ],
)
def test_a_card_that_could_not_be_read_back_is_not_written(change, message):
    with pytest.raises(ConfigError, match=message):
        model_files(dataclasses.replace(CARD, **change), build(TINY).state_dict())


@pytest.mark.parametrize("where", [0.001, 0.2, 0.5, 0.9, 0.9999])
def test_a_flipped_bit_in_the_weights_is_found(where, tmp_path):
    made(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(tmp_path / "m")


def test_weights_of_another_run_are_refused(tmp_path):
    made(tmp_path / "a", seed=0)
    made(tmp_path / "b", seed=1)
    os.replace(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    with pytest.raises(WeightsError, match="SHA-256"):
        load_model(tmp_path / "a")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_or_truncated_file_is_named(name, tmp_path):
    made(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises((ConfigError, WeightsError), match=name.replace(".", r"\.")):
        load_model(tmp_path / "m")
    path.unlink()
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        load_model(tmp_path / "m")


def test_nan_weights_are_refused_unless_asked_for(tmp_path):
    state = build(TINY).state_dict()
    state["classifier.weight"][0, 0] = float("nan")
    write_folder(tmp_path / "m", model_files(CARD, state))
    with pytest.raises(WeightsError, match=r"classifier\.weight holds NaN"):
        load_model(tmp_path / "m")
    model, _ = load_model(tmp_path / "m", allow_nan=True)
    assert model.classifier.weight[0, 0].isnan()


def test_an_architecture_that_the_weights_do_not_fit_is_refused_with_shapes(tmp_path):
    made(tmp_path / "m")
    edited(tmp_path / "m", lambda d: d["architecture"].update(head=64))
    with pytest.raises(WeightsError, match=r"conv_head.weight \(32, 16, 1, 1\) where the model has \(64, 16, 1, 1\)"):
        load_model(tmp_path / "m")


def test_a_network_larger_than_its_weights_is_refused_before_memory_is_taken(tmp_path):
    made(tmp_path / "m")
    edited(tmp_path / "m", lambda d: d["architecture"].update(head=65_536, stem=4096))  # 1 MB of weights, 300 MB asked
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match="where the model has"):
        load_model(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


STAGE = {"depth": 1, "width": 8, "expand": 1, "kernel": 3, "stride": 1}
ATTACKS = {
    "another_format": lambda d: d.update(format="other"),
    "no_format": lambda d: d.pop("format"),
    "newer_version": lambda d: d.update(version=2),
    "version_true": lambda d: d.update(version=True),
    "version_text": lambda d: d.update(version="1"),
    "class_path": lambda d: d.update(architecture={"class_path": "os.system", "init_args": {"command": "true"}}),
    "module_key": lambda d: d["architecture"].update(_target_="os.system"),
    "family_path": lambda d: d["architecture"].update(family="os.system"),
    "family_dunder": lambda d: d["architecture"].update(family="__class__"),
    "family_list": lambda d: d["architecture"].update(family=["efficientnet"]),
    "url": lambda d: d.update(weights_url="https://example.org/model.safetensors"),
    "url_family": lambda d: d["architecture"].update(family="https://example.org/x.py"),
    "trust": lambda d: d.update(trust_remote_code=True),
    "trust_inside": lambda d: d["architecture"].update(trust_remote_code=True),
    "allow_nan": lambda d: d.update(allow_nan=True),
    "billion_channels": lambda d: d["architecture"].update(stem=10**9),
    "huge_number": lambda d: d["architecture"].update(stem=10**400),
    "million_layers": lambda d: d["architecture"]["stages"][1].update(depth=10**6),
    "million_stages": lambda d: d["architecture"].update(stages=[STAGE] * 30_000),
    "many_blocks": lambda d: d["architecture"].update(stages=[STAGE | {"depth": 4096}] * 60),
    "over_two_billion_parameters": lambda d: d["architecture"].update(stages=[STAGE | {"width": 60_000}], head=60_000),
    "negative_stride": lambda d: d["architecture"]["stages"][1].update(stride=-2),
    "zero_kernel": lambda d: d["architecture"]["stages"][1].update(kernel=0),
    "text_for_number": lambda d: d["architecture"].update(stem="8"),
    "float_for_number": lambda d: d["architecture"].update(stem=8.5),
    "true_for_number": lambda d: d["architecture"].update(stem=True),
    "null_stages": lambda d: d["architecture"].update(stages=None),
    "code_in_layers": lambda d: d["architecture"]["layers"].update(act="__import__('os').system('true')"),
    "unknown_layer": lambda d: d["architecture"]["layers"].update(norm="os.system(command='true')"),
    "lambda_layer": lambda d: d["architecture"]["layers"].update(norm="(lambda: 0)()"),
    "long_layer": lambda d: d["architecture"]["layers"].update(norm="(" * 5000),
    "layer_option": lambda d: d["architecture"]["layers"].update(norm="batch_norm(epsilon=1)"),
    "layer_mode": lambda d: d["architecture"]["layers"].update(conv="conv2d(padding_mode='os')"),
    "layer_device": lambda d: d["architecture"]["layers"].update(conv="conv2d(device='ghost')"),
    "layer_divisor": lambda d: d["architecture"]["layers"].update(attn=f"se(divisor={10**30})"),
    "layer_minus": lambda d: d["architecture"]["layers"].update(norm="group_norm(groups=-3)"),
    "misspelt": lambda d: d["architecture"].update(dropuot=0.1),
    "no_classes": lambda d: d.update(classes=[]),
    "class_number": lambda d: d.update(classes=[1, 2, 3]),
    "long_class": lambda d: d.update(classes=["a", "b", "c" * 5000]),
    "class_count": lambda d: d.update(classes=["a"]),
    "twin_class": lambda d: d.update(classes=["a", "a", "b"]),
    "preprocess_std": lambda d: d["preprocess"].update(std=[0.0, 1.0, 1.0]),
    "preprocess_pixels": lambda d: d["preprocess"].update(resolution=10**6),
    "hash": lambda d: d.update(weights_sha256="../../etc/passwd"),
    "no_hash": lambda d: d.pop("weights_sha256"),
    "provenance_nested": lambda d: d.update(provenance={"a": {"b": 1}}),
    "a_list": lambda d: [1],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_config_that_asks_for_what_it_must_not_is_refused_fast(name, tmp_path):
    made(tmp_path / "m")
    edited(tmp_path / "m", ATTACKS[name])
    start = time.process_time()
    with pytest.raises((ConfigError, WeightsError)) as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(tmp_path))
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"format": "foveate-model", "format": "x"}',
        b'{"format": NaN}',
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"format": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_config_that_is_not_plain_json_is_refused(text, tmp_path):
    made(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_bytes(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_model(tmp_path / "m")


def test_a_config_of_a_gigabyte_is_refused_unread(tmp_path):
    made(tmp_path / "m")
    with open(tmp_path / "m" / "config.json", "r+b") as file:
        file.truncate(2**30)  # sparse: takes no disk
    start = time.process_time()
    with pytest.raises(WeightsError, match="at most"):
        load_model(tmp_path / "m")
    assert time.process_time() - start < 0.05


def test_a_newer_version_says_what_to_do(tmp_path):
    made(tmp_path / "m")
    edited(tmp_path / "m", lambda d: d.update(version=9))
    with pytest.raises(ConfigError, match=r"version 9.*upgrade foveate"):
        read_card(tmp_path / "m")


@functools.cache
def tiny_files():
    return model_files(CARD, build(TINY).state_dict())


def spots(data, path=()):
    """Every place in plain JSON data, as a path of keys and indices."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from spots(value, (*path, key))


def put(data, path, value):
    """A copy of plain JSON data with one place changed."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = put(data[path[0]], path[1:], value)
    return copy


numbers = st.integers(-3, 40) | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8) | st.sampled_from(["group_norm", "eca", "os.system", "se(ratio=2)", "relu(1)", "none"])
leaves = st.none() | st.booleans() | numbers | texts
junk = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_change_of_a_config_gives_a_model_or_a_typed_error(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "m"
    files = tiny_files()
    config = json.loads(files["config.json"])
    places = list(spots(config))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places))
        try:
            config = put(config, path, data.draw(junk))
        except (KeyError, IndexError, TypeError):  # the first change removed that place
            continue
    write_folder(folder, dict(files) | {"config.json": json.dumps(config).encode()})
    start = time.process_time()
    try:
        model, card = load_model(folder)
    except (ConfigError, WeightsError) as error:
        assert "\n" not in str(error)
    else:
        assert model.config.num_classes == len(card.classes)
    assert time.process_time() - start < 10


def test_a_folder_for_another_class_count_says_so(tmp_path):
    made(tmp_path / "m", dataclasses.replace(CARD, architecture=replace(TINY, num_classes=4), classes=tuple("abcd")))
    edited(tmp_path / "m", lambda d: (d["architecture"].update(num_classes=3), d.update(classes=["a", "b", "c"]))[0])
    with pytest.raises(WeightsError, match=r"classifier.weight \(4, 32\) where the model has \(3, 32\)"):
        load_model(tmp_path / "m")
