"""fit with --weights auto and hub: what races, what is fetched, what a winner says of its origin."""

import importlib
import json

import numpy as np
import pytest
import torch
from hub_server import Hub, running_hub, timm_files, use_hub
from PIL import Image

import foveate as fv
from foveate.config import replace
from foveate.cost.latency import Latency
from foveate.data.index import open_data
from foveate.errors import ConfigError, WeightsError
from foveate.events import CandidateEvent, StageEvent, WarningEvent
from foveate.selection import candidates
from foveate.selection.fetching import Fetching, is_away
from foveate.selection.halving import Entry, best_of_heats, split_heats
from foveate.selection.published import find_offers, offered_pairs, promise
from foveate.workflows.fit import fit
from foveate.zoo import FAMILIES, build, sources
from foveate.zoo.catalogue import counts, published
from foveate.zoo.family import Published
from foveate.zoo.local import local_weights, public_named
from foveate.zoo.sources import TIMM, public_weights
from foveate.zoo.weights import tensor_bytes

# six networks of four families, as small as each family goes
NETS = {
    "tiny_resnet_a": ("resnet", 1),
    "tiny_resnet_b": ("resnet", 2),
    "tiny_efficientnet_a": ("efficientnet", 3),
    "tiny_efficientnet_b": ("efficientnet", 4),
    "tiny_mobilenet": ("mobilenet", 5),
    "tiny_regnet": ("regnet", 6),
}


def tiny(name):
    family, seed = NETS[name]
    config = replace(FAMILIES[family].tiny, num_classes=1000, resolution=224)
    torch.manual_seed(seed)
    return config, build(config).state_dict()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has six tiny networks of the zoo, and one that is too dear for any budget here."""
    files = {}
    for name, (family, _) in NETS.items():
        config, state = tiny(name)
        known = Published("a title", "", 50.0, weights=f"timm {name}.test", interpolation="bicubic")
        monkeypatch.setitem(FAMILIES[family].variants, name, config)
        monkeypatch.setitem(FAMILIES[family].published, name, known)
        monkeypatch.setitem(counts(), name, {"params": 1000, "macs": 10**6})
        files[f"timm/{name}.test"] = timm_files(name, state)
    forget()
    monkeypatch.setattr("foveate.zoo.local.lite_weights", lambda: iter(()))
    with running_hub(Hub(files)) as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        yield hub
    monkeypatch.undo()
    forget()


def forget():
    """What is remembered of the catalogue."""
    for cached in (sources.public_weights, sources._by_address, sources._timm_names):
        cached.cache_clear()


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("val", 8), ("test", 8)):
        for i in range(n):
            path = tmp_path / "photos" / split / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 30, (90, 100, 3), dtype=np.uint8)
            pixels[:, :, (0, 2)[i % 2]] += 200
            Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.mark.slow
def test_six_networks_of_four_families_race_with_a_hubs_weights(hub, photos, monkeypatch, tmp_path):
    module = importlib.import_module("foveate.workflows.fit")
    told, entered = [], []
    choose = module.choose_entrants

    def chosen(fitting, *rest):
        assert not hub.asked, "something was fetched before it was known what races"
        choose(fitting, *rest)
        entered.extend(m.candidate.model for m in fitting if m.candidate.model != "tiny_regnet")
        return [m for m in fitting if m.candidate.model != "tiny_regnet"]

    monkeypatch.setattr(module, "choose_entrants", chosen)
    about = {"threads": 1, "batch": 1, "runtime": "none", "precision": "float32", "device": "none", "input": "none"}
    once = Latency(1.0, 1.0, 1.0, 1.0, 1.0, 30, 0, **about)  # six exports would take half a minute

    def measure(candidate, counted, *_):
        return candidates.Measured(candidate, once, 1, counted.macs, counted.params)

    monkeypatch.setattr(candidates, "measure_candidate", measure)
    whole = candidates.measure_all
    monkeypatch.setattr(candidates, "measure_all", lambda field, *rest: whole(field, rest[0], rest[1], 1e12, rest[3]))
    hub.faults["HEAD model.safetensors"] = ["503", 1]  # a bad moment of the hub is got over
    run = fit(
        photos, weights="hub", models="tiny_*", time_s=1.0, threads=1, runs=tmp_path / "runs", listener=told.append
    )
    fetched = {path.split("/")[3].removesuffix(".test") for path in hub.gets("/cdn/")}
    assert fetched == set(entered) and len(fetched) >= 5 and "tiny_regnet" not in fetched  # only what races
    assert len({event.model for event in told if isinstance(event, CandidateEvent)} & set(NETS)) == 6
    winner = run.summary["model"]
    assert run.summary["weights"].startswith(f"hf-hub:timm/{winner}.test@")
    card = json.loads((run.folder / "best" / "config.json").read_text())
    assert card["provenance"]["weights"] == run.summary["weights"]
    assert card["provenance"]["weights_licence"].lower() == "apache-2.0"
    assert any("fetched hf-hub:timm/" in e.text for e in told if isinstance(e, StageEvent))
    assert card["preprocess"]["kernel"] == "bicubic" and card["preprocess"]["mean"] == [0.485, 0.456, 0.406]


def test_nothing_is_asked_without_the_hub(hub, photos):
    told = []
    found = candidates.list_asked(open_data(photos), None, "tiny_*")
    assert {c.weights for c in found} == {None} and find_offers("auto") == {}
    options = (candidates.Budget(), 1, 0.0, told.append)
    candidates.look_published(open_data(photos), "auto", "tiny_resnet_a", "commercial", 1.0, options)
    assert any(
        "pip install 'foveate[lite]'" in e.text and "--weights hub" in e.text
        for e in told
        if isinstance(e, WarningEvent)
    )
    assert hub.asked == []


def test_a_cache_that_is_there_is_used_without_asking(hub):
    from foveate.zoo.hub import hub_file

    hub_file(f"{TIMM}tiny_regnet.test")
    asked = len(hub.asked)
    found = local_weights()
    assert list(found) == ["tiny_regnet"] and "@c0ffee" in found["tiny_regnet"].address
    assert not is_away(found["tiny_regnet"].address) and len(hub.asked) == asked


def test_folders_in_the_environment_give_weights_by_the_names_of_their_files(hub, monkeypatch, tmp_path):
    _, state = tiny("tiny_mobilenet")
    one, two = tmp_path / "one", tmp_path / "two"
    (two / "tiny_resnet_b.test").mkdir(parents=True)
    one.mkdir()
    (one / "tiny_mobilenet.safetensors").write_bytes(tensor_bytes(state))
    (one / "notes.txt").write_text("nothing")
    (one / "unknown.pth").write_bytes(b"")
    (two / "tiny_resnet_b.test" / "model.safetensors").write_bytes(tensor_bytes(tiny("tiny_resnet_b")[1]))
    monkeypatch.setenv("FOVEATE_WEIGHTS", f"{one}:{tmp_path / 'none'}:{two}")
    found = local_weights()
    assert set(found) == {"tiny_mobilenet", "tiny_resnet_b"}
    assert found["tiny_mobilenet"].address == str(one / "tiny_mobilenet.safetensors") and hub.asked == []


def test_names_of_files_are_those_of_their_publishers():
    assert public_named("resnet18-f37072fd").model == "resnet18"
    assert public_named("efficientnet-lite0-57934424").model == "efficientnet_lite0"
    assert public_named("tf_mixnet_s.in1k").model == "mixnet_s" and public_named("best") is None


def test_weights_that_do_not_come_leave_the_race_and_the_others_go_on(hub):
    told = []
    hub.repositories["timm/tiny_resnet_a.test"]["model.safetensors"] = b""
    del hub.repositories["timm/tiny_regnet.test"]
    coming = Fetching(
        [f"{TIMM}{name}.test" for name in ("tiny_regnet", "tiny_mobilenet")] + [None, "lite"], told.append
    )
    assert coming.wait(f"{TIMM}tiny_mobilenet.test").startswith(f"{TIMM}tiny_mobilenet.test@")
    with pytest.raises(WeightsError, match="no such repository"):
        coming.wait(f"{TIMM}tiny_regnet.test")
    assert coming.wait("lite") == "lite"


def test_licences_that_forbid_commerce_are_asked_for(monkeypatch):
    monkeypatch.setattr("foveate.zoo.local.local_weights", dict)
    assert "regnety_640" not in find_offers("hub") and "regnety_640" in find_offers("hub", "any")
    with pytest.raises(ConfigError, match="expected commercial or any"):
        find_offers("hub", "all")


def entry(accuracy, loss, weights):
    class Fake:
        class candidate:  # noqa: N801
            pass

    fake = Fake()
    fake.candidate = type("C", (), {"weights": weights})()
    return Entry(fake, None, accuracy, loss)


def test_the_better_heat_wins_and_among_equals_the_lower_loss():
    scratch, tuned = entry(0.9, 0.2, None), entry(0.5, 0.1, "lite")
    assert best_of_heats([[tuned], [scratch]], 100)[0] is scratch
    close = entry(0.89, 0.1, "lite")
    assert best_of_heats([[close], [scratch]], 100) == [close, scratch]


def test_heats():
    tuned, scratch = (entry(0, 0, w).measured for w in ("lite", None))
    assert split_heats([scratch, tuned], small=True) == [[tuned], [scratch]]
    assert split_heats([scratch, tuned], small=False) == [[tuned]]
    assert split_heats([scratch], small=False) == [[scratch]]


def test_promises_fall_with_the_resolution_and_pairs_suit_the_pictures(photos):
    assert promise("resnet18", 224) == published("resnet18").top1 > promise("resnet18", 112) > 0
    assert promise("nobody", 224) == 0.0
    offers = {name: public for name, public in public_weights().items() if name in ("resnet18", "resnet34d")}
    pairs = offered_pairs(open_data(photos), ["resnet18", "resnet50"], offers)
    assert pairs == [("resnet18", 96)]
    assert offered_pairs(open_data("digits"), ["resnet18", "resnet20_cifar"], offers) == [("resnet18", 96)]
    assert fv.variant("resnet18").resolution == 224
