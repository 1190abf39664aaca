"""The hub and torchvision's files through the real clients, against a hub on the loopback interface that fails."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import time

import pytest
import torch
from hub_server import ALWAYS, COMMIT, Hub, running_hub, timm_files, use_hub

from foveate.errors import ConfigError, WeightsError
from foveate.zoo import build
from foveate.zoo.families.efficientnet.network import EfficientNetConfig, Stage
from foveate.zoo.fetch import RESERVE
from foveate.zoo.hub import cached_file, hub_facts, hub_file, hub_licence, pinned, timm_name
from foveate.zoo.torch_hub import cached_torchvision, torchvision_file
from foveate.zoo.weights import load_weights, weights_info, weights_licence

TINY = EfficientNetConfig((Stage(1, 8, 1, 3, 1), Stage(2, 16, 4, 3, 2)), stem=8, head=32, num_classes=5, resolution=32)
ADDRESS = "hf-hub:org/tiny"
WEIGHTS = "model.safetensors"


def tiny(seed):
    torch.manual_seed(seed)
    return build(TINY)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    files = timm_files("tf_efficientnet_b0", tiny(1).state_dict(), num_classes=5)
    with running_hub(Hub({"org/tiny": files})) as hub:
        use_hub(monkeypatch, hub, tmp_path / "cache")
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield hub


def loads():
    """Whether the tiny net has the hub's weights after loading."""
    model = tiny(2)
    load_weights(model, ADDRESS)
    pairs = zip(model.state_dict().values(), tiny(1).state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_weights_come_through_the_redirect_once_and_say_how_far_they_are(hub):
    heard = []
    path = hub_file(ADDRESS, progress=lambda came, whole: heard.append((came, whole)))
    size = len(hub.repositories["org/tiny"][WEIGHTS])
    assert heard[-1] == (size, size) and path.read_bytes() == hub.repositories["org/tiny"][WEIGHTS]
    assert loads() and hub.gets(WEIGHTS) == [f"/cdn/org/tiny/{WEIGHTS}"]
    asked = len(hub.asked)
    assert pinned(ADDRESS, path) == f"{ADDRESS}@{COMMIT}"
    assert hub_file(f"{ADDRESS}@{COMMIT}") == path == cached_file(ADDRESS) and len(hub.asked) == asked


def test_preprocessing_and_licence_come_along(hub):
    assert weights_info(TINY, ADDRESS)["resize"] == 256
    assert hub_licence(ADDRESS) == weights_licence(ADDRESS) == "apache-2.0"
    hub.repositories["org/free"] = {"config.json": b"{}"}
    assert weights_licence("hf-hub:org/free") == ""
    hub.repositories["org/own"] = {"README.md": b"---\r\nlicense: other\r\nlicense_name: fair-noncommercial\r\n---\r\n"}
    assert weights_licence("hf-hub:org/own") == "fair-noncommercial"


# (what goes wrong, with which file, how often): the client and we get over these
MENDED = [
    ("cut", WEIGHTS, 1),
    ("cut", WEIGHTS, 3),
    ("slow", WEIGHTS, 1),
    ("429", f"HEAD {WEIGHTS}", 1),
    ("503", f"HEAD {WEIGHTS}", 2),
    ("hang up", f"HEAD {WEIGHTS}", 1),
]


@pytest.mark.parametrize(("kind", "file", "times"), MENDED)
def test_a_fault_that_passes_is_got_over(kind, file, times, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)  # of 10 MB: less of it is not kept
    hub.faults[file] = [kind, times]
    assert loads()
    if kind in ("cut", "slow"):  # taken up where it broke
        ranges = [asked for method, path, asked in hub.asked if method == "GET" and "/cdn/" in path]
        assert ranges[0] == "" and all(r.startswith("bytes=") for r in ranges[1:]) and len(ranges) == times + 1


def test_a_server_without_ranges_is_read_from_the_start_again(hub):
    hub.faults[WEIGHTS] = ["cut", 1]
    fault = hub.fault
    hub.fault = lambda name: fault(name) or ("no ranges" if name == WEIGHTS else None)
    assert loads()


# (what goes wrong, with which file, what the line says)
FATAL = [
    ("cut", WEIGHTS, "could not be fetched"),
    ("damaged", WEIGHTS, "came in damaged .* and was removed; try again"),
    ("short", WEIGHTS, "another size than announced"),
    ("429", f"HEAD {WEIGHTS}", "asks for fewer requests .429.; wait"),
    ("503", f"HEAD {WEIGHTS}", "could not be fetched"),
    ("403", f"HEAD {WEIGHTS}", "could not be fetched"),
    ("gated", f"HEAD {WEIGHTS}", "behind a consent: accept it at https://huggingface.co/org/tiny and set HF_TOKEN"),
    ("portal", f"HEAD {WEIGHTS}", "could not be fetched"),
    ("hang up", f"HEAD {WEIGHTS}", "could not be fetched"),
]


@pytest.mark.parametrize(("kind", "file", "line"), FATAL)
def test_a_fault_that_stays_is_one_line_and_leaves_nothing_behind(kind, file, line, hub, tmp_path):
    hub.faults[file] = [kind, ALWAYS if kind != "cut" else 0]
    if kind == "cut":  # not one byte more comes from the second request on
        hub.faults[WEIGHTS] = ["cut", ALWAYS]
        hub.repositories["org/tiny"][WEIGHTS] = hub.repositories["org/tiny"][WEIGHTS][:1]
    with pytest.raises(WeightsError, match=line) as caught:
        loads()
    assert str(caught.value).startswith(f"{ADDRESS}: ") and "\n" not in str(caught.value)
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and "blobs" in p.parts]
    assert left == []


def test_what_came_in_damaged_is_fetched_anew(hub):
    hub.faults[WEIGHTS] = ["damaged", 1]
    with pytest.raises(WeightsError, match="damaged"):
        loads()
    assert loads()


def test_a_copy_that_was_spoilt_on_the_disk_is_refused(hub):
    blob = hub_file(ADDRESS).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match="SHA-256"):
        loads()


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("hf-hub:org/none", "no such repository, or it is private"),
        ("hf-hub:org/tiny@v9", "no such revision"),
        ("hf-hub:org/empty", "is not in this repository"),
    ],
)
def test_what_is_not_there_is_told_apart(address, line, hub):
    hub.repositories["org/empty"] = {}
    with pytest.raises(WeightsError, match=line):
        load_weights(tiny(2), address)


def test_nobody_answers(hub, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}"
    )
    with pytest.raises(WeightsError, match="could not be fetched"):
        loads()


def test_offline_work_uses_the_copy_and_asks_for_nothing(hub, monkeypatch):
    hub_file(ADDRESS)
    asked = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert loads() and len(hub.asked) == asked
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        hub_file("hf-hub:org/other")


def test_a_disk_without_room_and_a_limit_are_said_before_a_byte_is_written(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("FOVEATE_FETCH_LIMIT", "1KB")
    with pytest.raises(WeightsError, match=r"at most 0 MB are fetched .set FOVEATE_FETCH_LIMIT."):
        loads()
    monkeypatch.setenv("FOVEATE_FETCH_LIMIT", "lots")
    with pytest.raises(ConfigError, match='FOVEATE_FETCH_LIMIT="lots": expected a size'):
        loads()
    monkeypatch.delenv("FOVEATE_FETCH_LIMIT")
    usage = type("Usage", (), {"free": RESERVE + 10})
    monkeypatch.setattr("foveate.zoo.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"do not fit on the disk .* let HF_HOME name another place"):
        loads()
    assert not [p for p in (tmp_path / "cache").rglob("blobs/*") if p.is_file()]


def test_a_disk_that_runs_full_is_said(hub, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(WeightsError, match="does not fit on the disk; free some room"):
        loads()


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b'{"a": 1, "a": 2}', b"<html>"])
def test_a_config_that_is_no_json_is_refused(text, hub):
    hub.repositories["org/tiny"]["config.json"] = text
    with pytest.raises(ConfigError, match=r"config\.json"):
        hub_facts(ADDRESS)


def test_arguments_that_make_another_network_are_refused():
    assert timm_name({"architecture": "resnet18", "model_args": {"num_classes": 3}}) == "resnet18"
    with pytest.raises(ConfigError, match="resnet18 with block_args"):
        timm_name({"architecture": "resnet18", "model_args": {"block_args": {}}})


def test_another_process_reads_the_mirror_from_the_environment(hub, tmp_path):
    code = f"from foveate.zoo.hub import hub_file; print(hub_file({ADDRESS!r}).stat().st_size)"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(len(hub.repositories["org/tiny"][WEIGHTS])), done.stderr
    assert "%" not in done.stderr  # no bar of the library's


@pytest.fixture
def torchvision_hub(hub, monkeypatch):
    """A file of torchvision's: its name ends in the digits of its checksum."""
    stream = io.BytesIO()
    torch.save(tiny(1).state_dict(), stream)
    data = stream.getvalue()
    name = f"tiny-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    hub.files[name] = data
    monkeypatch.setattr("foveate.zoo.torch_hub._url", lambda _: f"https://download.pytorch.org/models/{name}")
    monkeypatch.setattr("foveate.zoo.torch_hub.TIMEOUT_S", 0.5)
    return hub, name


ADDRESS_TV = "torchvision:Tiny_Weights.DEFAULT"


@pytest.mark.parametrize("kind", [None, "cut", "slow", "503", "429", "no ranges"])
def test_a_file_of_torchvisions_comes_whole(kind, torchvision_hub):
    hub, name = torchvision_hub
    hub.faults[name] = [kind, 2]
    assert cached_torchvision(ADDRESS_TV) is None
    model = tiny(2)
    load_weights(model, ADDRESS_TV)
    assert torch.equal(model.conv_stem.weight, tiny(1).conv_stem.weight)
    path = cached_torchvision(ADDRESS_TV)
    assert path.parts[-3:] == ("hub", "checkpoints", name) and path.read_bytes() == hub.files[name]
    if kind in ("cut", "slow"):
        assert [bool(asked) for _, _, asked in hub.asked] == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "line"),
    [("damaged", "damaged .* and was removed"), ("404", "404"), ("500", "500"), ("403", "403")],
)
def test_a_file_of_torchvisions_that_does_not_come_is_one_line(kind, line, torchvision_hub):
    hub, name = torchvision_hub
    hub.faults[name] = [kind, ALWAYS]
    with pytest.raises(WeightsError, match=line):
        torchvision_file(ADDRESS_TV)
    assert cached_torchvision(ADDRESS_TV) is None
    del hub.faults[name]
    assert torchvision_file(ADDRESS_TV).is_file()


def test_a_download_that_was_killed_goes_on_in_the_next_run(torchvision_hub):
    hub, name = torchvision_hub
    path = torchvision_file(ADDRESS_TV)
    part = path.with_name(name + ".partial")
    path.rename(part)
    part.write_bytes(hub.files[name][:1000])
    torchvision_file(ADDRESS_TV)
    assert hub.asked[-1][2] == "bytes=1000-" and path.read_bytes() == hub.files[name]
    path.rename(part)  # killed between the last byte and the name
    asked = len(hub.asked)
    assert torchvision_file(ADDRESS_TV) == path and len(hub.asked) == asked
    part.write_bytes(b"x" * (len(hub.files[name]) + 1))  # the beginning of something else
    path.unlink()
    assert torchvision_file(ADDRESS_TV).read_bytes() == hub.files[name]


def test_a_name_that_torchvision_does_not_have_names_near_ones():
    with pytest.raises(ConfigError, match=r"torchvision has no such weights.*ResNet18_Weights"):
        torchvision_file("torchvision:ResNet18_Weight.IMAGENET1K_V1")


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://x", "nowhere"])
def test_a_mirror_that_is_no_address_is_refused(mirror, torchvision_hub, monkeypatch):
    monkeypatch.setenv("FOVEATE_TORCHVISION_URL", mirror)
    with pytest.raises(ConfigError, match="expected an address"):
        torchvision_file(ADDRESS_TV)
