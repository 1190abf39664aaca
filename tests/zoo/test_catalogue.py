"""The table of the zoo: counts equal to the published integers, something published of every model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.errors import ConfigError
from foveate.zoo import FAMILIES, list_models
from foveate.zoo.catalogue import catalogue, counts, entry, published

ROOT = Path(__file__).parents[2]
FACTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests" / "facts").glob("*.json")}


def test_every_model_stands_in_the_counts_and_no_other():
    assert counts().keys() == set(list_models()), "run scripts/count_zoo"


def test_the_pages_name_every_model():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "zoo_page", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_are_the_published_integers(family):
    facts = FACTS[family]
    for name, config in FAMILIES[family].variants.items():
        assert counts()[name] == {"params": facts[name]["params"], "macs": facts[name]["macs"]}, name
        assert facts[name].get("resolution", config.resolution) == config.resolution, name
        assert facts[name].get("source", facts.get("source", facts.get("about"))), (
            f"{name}: a number without its origin"
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_has_a_paper_and_no_accuracy_without_its_source(family):
    for name in FAMILIES[family].variants:
        p = published(name)
        assert p is not None and p.paper and p.arxiv, name
        assert (p.top1 is None) == (not p.source), name
        assert p.top1 is None or 40 < p.top1 < 100, f"{name}: per cent, not a share, not an error"
        assert p.resize >= p.resolution >= 32 or "_cifar" in name, name


def test_the_table_is_filtered_and_sorted():
    small = catalogue("*", max_params=5_000_000, max_macs=500_000_000, sort="params")
    assert small and all(e.params <= 5_000_000 and e.macs <= 500_000_000 for e in small)
    assert [e.params for e in small] == sorted(e.params for e in small)
    assert [e.model for e in catalogue("resnet1?")] == ["resnet18"]
    best = [e.published.top1 for e in catalogue("resnet*", sort="top1")]
    assert best[0] == max(t for t in best if t is not None)
    assert best[-1] is None


def test_an_unknown_pattern_is_refused_with_near_names():
    with pytest.raises(ConfigError, match="resnet"):
        catalogue("resnt")
    with pytest.raises(ConfigError, match="resnet18"):
        entry("resnet81")
