"""scripts/peers asks what others' suites ask; here a small part of it, in this process."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from foveate.config import replace
from foveate.zoo import FAMILIES


@pytest.fixture(scope="module")
def peers():
    loader = importlib.machinery.SourceFileLoader("peers", str(Path(__file__).parent.parent / "scripts" / "peers"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("peers", loader))
    loader.exec_module(module)
    return module


FAST = ("forward", "backward", "head_and_features", "feature_maps", "fx_forward", "jit_trace")
FAST += ("autocast", "channels_last", "many_networks", "deep_copy", "state_dict")


@pytest.mark.filterwarnings("ignore")  # of tracing, as in the script
@pytest.mark.parametrize("family", ["efficientnet", "alexnet"])
def test_a_sample_of_the_checks_passes(peers, family):
    checks = {**peers.TIMM, **peers.TORCHVISION}
    rows = list(peers.ask_networks({name: checks[name] for name in FAST}, [family]))
    assert len(rows) == len(FAST) and [row for row in rows if row[1]] == []


def test_a_check_that_fails_is_told(peers):
    def wrong(config):
        assert config.num_classes == 0, "classes"

    ((name, reason),) = peers.ask_networks({"wrong": wrong}, ["vgg"])
    assert name == "wrong[vgg]" and reason.startswith("AssertionError: classes")


def test_strict_export(peers):
    peers.export_strict(replace(FAMILIES["alexnet"].tiny, num_classes=7))


def test_tests_of_a_checkout_are_matched(peers, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_models.py").write_text(
        "def test_model_forward():\n    pass\ndef test_new():\n    pass\n"
    )
    assert peers.tests_of(str(tmp_path)) == {"test_model_forward": "forward", "test_new": "none"}
    with pytest.raises(SystemExit, match="give a checkout"):
        peers.tests_of(str(tmp_path / "tests"))
