"""The sub-networks of a net with weights: a child is its part of the whole, a search of them ends with a front."""

import json
import signal
import time

import forked
import numpy as np
import pytest
import torch

import foveate as fv
from foveate.compress.slice import slice_state
from foveate.config import to_dict
from foveate.data.index import open_data
from foveate.data.preprocess import Preprocess
from foveate.files import write_folder
from foveate.recipes import RECIPES
from foveate.runs.plan import Budget
from foveate.search.supernet import extract, largest, smallest
from foveate.train.artefact import ModelCard, model_files
from foveate.workflows.search.run import search
from foveate.workflows.search.subnets.choices import Subnets, resolutions
from foveate.workflows.search.subnets.inherit import Children
from foveate.workflows.search.subnets.source import subnet_space
from foveate.workflows.search.subnets.train import Shrinking

WHOLE = ("efficientnet_b0", "mobilenet_v3_small", "resnet50")


def small(name):
    """A few stages of a net, for quick reading."""
    config = fv.variant(name)
    stages = config.stages[:4] if len(config.stages) > 4 else config.stages
    return fv.replace(config, stages=stages, num_classes=5, resolution=32)


def made(config, name, dtype=torch.float64):
    """(children with random weights and a random order of channels, the net itself)."""
    torch.manual_seed(0)
    subnets = Subnets(config, name)
    model = fv.build(subnets.config).to(dtype)
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    scores = {g: torch.rand(len(held.units)).tolist() for g, held in subnets.coupling.groups.items()}
    return Children(subnets, model.state_dict(), scores), model.eval()


def check_family(config, name):
    children, model = made(config, name)
    x = torch.randn(4, 3, config.resolution, config.resolution, dtype=torch.float64)
    whole, rng = largest(children.space), np.random.default_rng(0)
    children.eval()
    assert children.space.config(whole) == children.subnets.config
    own = {k: v for k, v in model.state_dict().items() if "running" in k or k.endswith("tracked")}
    buffers = dict(model.named_buffers())
    torch.testing.assert_close(children(x, whole, {**buffers, **own}), model(x), rtol=0, atol=1e-9)
    for net in (smallest(children.space), *(children.space.sample(rng) for _ in range(3))):
        values, statistics = children.space.decode(net), children.statistics(net, [x])
        cut = fv.build(children.space.config(net)).double()
        cut.load_state_dict(extract(children, net, statistics))
        with torch.no_grad():
            out = cut.eval()(children.at_size(x, net))
            torch.testing.assert_close(out, children(x, net, statistics), rtol=0, atol=1e-5)
        plan, state = children.counts.plan(values), model.state_dict()
        if plan:  # foveate.compress cuts the same channels out of the whole net
            theirs = slice_state(children.subnets.config, state, plan)
            coupling = children.subnets.coupling
            squeezed = {key for (key, _), at in coupling.trace.axes.items() if coupling.free.intersection(at.labels)}
            for key, tensor in children.slices(net).items():
                kernels = tensor.shape != theirs[key].shape
                if key not in squeezed and not kernels:
                    assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "resnet20_cifar", "regnety_002"])
def test_a_child_is_the_net_that_is_cut_out(name):
    check_family(small(name), name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", WHOLE)
def test_a_child_of_a_whole_network_is_the_net_that_is_cut_out(name):
    check_family(fv.replace(fv.variant(name), num_classes=5, resolution=64), name)


def test_children_have_the_best_channels_the_first_blocks_and_the_centre_of_kernels():
    children, model = made(small("efficientnet_lite0"), "lite")
    values = children.space.decode(largest(children.space))
    net = children.space.encode({**values, "stages.2.mid": 0.5, "stages.2.depth": 1, "stages.2.kernel": 3})
    part, whole = children.slices(net), dict(model.named_parameters())
    scores = torch.tensor(children.counts.scores["stages.2.mid.0"])
    best = scores.topk(len(scores) // 2).indices.sort().values
    assert torch.equal(part["blocks.2.0.conv_dw.weight"], whole["blocks.2.0.conv_dw.weight"][best][..., 1:4, 1:4])
    assert "blocks.2.1.conv_pw.weight" in whole and "blocks.2.1.conv_pw.weight" not in part


def test_a_width_never_makes_a_shortcut_where_the_net_has_none():
    space = Subnets(small("mobilenet_v2"), "mobilenet_v2").space
    stem = next(c for c in space.choices if c.name == "stem")
    assert stem.values == (1.0, 0.75)  # half of the stem's 32 channels would be the 16 of the next block


def test_sub_nets_grow_smaller_step_by_step():
    children, _ = made(small("regnety_002"), "regnety_002")
    students = Shrinking(children, 100, 2, seed=0)
    assert [students(step)[1] for step in (0, 9)] == [[], []]
    (_, early), (teacher, late) = students(15), students(90)
    assert len(early) == len(late) == 3 and max(map(max, early)) == 1
    assert late[0] == smallest(children.space) and teacher == largest(children.space)


def test_all_nets_of_a_step_see_pictures_of_one_size():
    children, _ = made(fv.replace(small("regnety_002"), resolution=96), "regnety_002")
    students, seen = Shrinking(children, 20, 2, seed=0), set()
    for step in range(20):
        teacher, others = students(step)
        sizes = {children.config(net).resolution for net in (teacher, *others)}
        assert len(sizes) == 1
        seen |= sizes
    assert seen == set(resolutions(96))


def test_resolutions_of_photographs_and_thumbnails():
    assert resolutions(160) == (160, 144, 128, 96) and resolutions(32) == (32,)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A model folder of a small net for digits."""
    base = fv.variant("resnet20_cifar")
    stages = tuple(fv.replace(s, width=16 * 2**i, mid=(16 * 2**i,) * 2) for i, s in enumerate(base.stages))
    config = fv.replace(base, resolution=8, stages=stages, stem_widths=(16,))
    torch.manual_seed(0)
    how, place = Preprocess(resolution=8, resize=8, fit="squash"), tmp_path_factory.mktemp("parent") / "tiny"
    card = ModelCard(config, tuple("0123456789"), how, {"data": "digits", "model": "tiny"}, ())
    write_folder(place, model_files(card, fv.build(config).state_dict()))
    return place


SHORT = {"evaluate": "children(epochs=1)", "threads": 1, "sampler": "random"}


def brief(folder):
    """A recipe of one epoch, in a file."""
    path = folder / "brief.json"
    path.write_text(json.dumps(to_dict(fv.replace(RECIPES["small_pictures"], epochs=1))))
    return str(path)


def test_a_search_of_sub_nets_ends_with_a_front_of_model_folders(parent, tmp_path):
    options = {"budget": Budget(max_macs=900_000), "trials": 6, "runs": tmp_path, **SHORT}
    options["recipe"] = brief(tmp_path)
    run = search("digits", f"subnets(of='{parent}')", **options)
    front = run.summary["front"]
    assert run.summary["macs"] <= 900_000 and len(front) == 3
    assert [row["latency_ms"] for row in front] == sorted(row["latency_ms"] for row in front)
    assert sum(row["chosen"] for row in front) == 1
    picture = open_data("digits").splits["test"].pixels[0]
    for number, row in enumerate(front, 1):
        assert row["path"] == str(run.folder.parent / "front" / str(number))
        assert len(fv.load(row["path"]).predict(picture)) > 0 and row["macs"] <= 900_000
        assert json.loads((run.folder.parent / "results.json").read_text())["front"][number - 1]["path"] == row["path"]
    assert "| front | test |" in (run.folder.parent / "table.md").read_text()
    about = json.loads((run.folder.parent / "supernet.json").read_text())
    assert about["steps"] > 0 and about["held_out"] == int(0.15 * 1439)


def test_a_search_of_sub_nets_that_is_killed_ends_with_the_same_winner(parent, tmp_path):
    words = ["search", "digits", "--space", f"subnets(of='{parent}')", "--trials", "3", "--front", "1", "--json"]
    words += ["--evaluate", "children(epochs=1)", "--recipe", brief(tmp_path), "--threads", "1", "--quiet"]

    def start(name, *more):
        (tmp_path / name).mkdir()
        return forked.start_command([*words, "--runs", str(tmp_path / name), *more], tmp_path / name)

    whole, parts = start("whole"), start("parts")
    folder = tmp_path / "parts" / "search-digits-1"
    while not (folder / "children.json").exists() and parts.is_alive():
        time.sleep(0.02)
    parts.kill()  # while the shared weights are trained
    parts.join()
    assert parts.exitcode == -signal.SIGKILL and not (folder / "supernet.json").exists()
    (tmp_path / "again").mkdir()
    again = forked.start_command(["search", "--resume", str(folder), "--json"], tmp_path / "again")
    again.join()
    whole.join()
    assert again.exitcode == whole.exitcode == 0, (tmp_path / "again" / "err.txt").read_text()

    def rows(place):
        found = json.loads((place / "results.json").read_text())
        return found["winner"], [(t["trial"], t["net"], t["score"]) for t in found["trials"]]

    assert rows(folder) == rows(tmp_path / "whole" / "search-digits-1")


@pytest.mark.parametrize(
    ("space", "options", "error", "words"),
    [
        ("subnets(of='resnet51')", {}, fv.ConfigError, "no model folder and no net of the zoo; did you mean resnet50"),
        ("subnets(of='resnet50')", {}, fv.ConfigError, "no weights of it are on this machine; there "),
        ("subnets", {}, fv.ConfigError, "name a net of the zoo with weights"),
        ("subnets(width=2)", {}, fv.ConfigError, r"expected subnets\(of=NAME or model folder"),
        ("subnets(of='{parent}')", {"evaluate": "train"}, fv.ConfigError, "valued by the weights that they share"),
        ("mnasnet", {"evaluate": "children"}, fv.ConfigError, r"is for --space subnets\(of=...\)"),
        ("subnets(of='{parent}')", {"budget": Budget(max_macs=1000)}, fv.BudgetError, "the smallest that was found of"),
        ("subnets(of='{parent}')", {"budget": Budget(time_s=0.1)}, fv.ConfigError, "are the least; allow 1m"),
    ],
)
def test_what_can_not_be_searched_is_said_in_one_line(space, options, error, words, parent, tmp_path):
    with pytest.raises(error, match=words) as caught:
        search("digits", space.format(parent=parent), runs=tmp_path, trials=1, **{**SHORT, "evaluate": None, **options})
    assert "\n" not in str(caught.value)


def test_nets_that_can_not_be_shared_and_too_few_pictures_are_refused(parent, tmp_path):
    with pytest.raises(fv.ConfigError, match="it has no batch norms"):
        Subnets(fv.variant("vgg11"), "vgg11")
    from foveate.data.index import subset

    data = open_data("digits")
    data.splits["train"] = subset(data.splits["train"], np.arange(40))
    with pytest.raises(fv.DataError, match="40 training pictures: the sub-networks of a net take 64 or more"):
        subnet_space(data, of=str(parent))
