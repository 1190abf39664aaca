"""How nets of a search are valued: by zero-cost scores and by a supernet, from the call to the report."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from small_space import brief_recipe, write_space

import foveate as fv
from foveate.config import replace
from foveate.events import silent
from foveate.runs.plan import Budget
from foveate.search import SPACES, load_space
from foveate.search.scores import score
from foveate.search.space import UNUSED, Choice, Space
from foveate.search.study import Found
from foveate.search.supernet import Supernet, largest, smallest
from foveate.workflows.search.evaluators import (
    ABOUT,
    WEIGHTS,
    ahead_s,
    evaluator,
    hopeless,
    positive,
    prepare,
    quiet,
    train_short,
)
from foveate.workflows.search.objective import material
from foveate.workflows.search.run import load_search, search
from foveate.workflows.search.study import opened

SPACE = """
import foveate as fv
from foveate.search.space import Choice, Space

BASE = fv.variant("mnasnet_small")
STAGES = tuple(fv.replace(s, depth=min(s.depth, 2)) for s in BASE.stages[:3])
BASE = fv.replace(BASE, stages=STAGES, head=32, resolution=8)


def space():
    kernel, width = Choice("stages.1.kernel", (3, 5)), Choice("stages.2.width", (8, 24))
    choices = [kernel, Choice("stages.2.expand", (2, 4, 6)), width]
    return Space(choices, name="tiny", base=BASE)
"""
LIMIT = 21_000  # multiply-adds
SHORT = {"epochs": 1, "pictures": 256, "threads": 1, "sampler": "random"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_space(tmp_path_factory.mktemp("space"), SPACE)


@pytest.fixture(scope="module")
def scored(tiny, tmp_path_factory):
    said = []
    made = search(
        "digits",
        tiny,
        evaluate="zen(repeats=2)",
        budget=Budget(max_macs=LIMIT),
        recipe=brief_recipe(tmp_path_factory.mktemp("recipe")),
        trials=8,
        runs=tmp_path_factory.mktemp("runs"),
        listener=lambda event: said.append(str(getattr(event, "text", None))),
        **SHORT,
    )
    return made, said


def results(made):
    return json.loads((made.folder.parent / "results.json").read_text())


def test_a_search_by_a_score_names_it_and_claims_no_accuracy(scored):
    made, said = scored
    trials = results(made)["trials"]
    fit = [t for t in trials if t["fits"]]
    assert fit and len(fit) < len(trials) == 8
    assert all(t["val_accuracy"] is None for t in trials)
    assert all(t["score_name"] == "zen(repeats=2)" for t in fit)
    assert all(t["score_name"] is None and t["score"] < 0 for t in trials if not t["fits"])
    assert results(made)["winner"] == max(fit, key=lambda t: t["score"])["net"]
    assert made.summary["macs"] <= LIMIT and made.summary["search"]["evaluate"] == "zen(repeats=2)"
    assert any("zen(repeats=2) " in text for text in said) and not any("val " in text for text in said)


def test_the_table_of_a_score_shows_how_much_of_it_is_size(scored):
    made, _ = scored
    table = (made.folder.parent / "table.md").read_text()
    assert "| trial | zen(repeats=2) |" in table and "val %" not in table and "Short trainings" not in table
    fit = [t for t in results(made)["trials"] if t["fits"]]
    ranks = [np.array([t[key] for t in fit]).argsort().argsort() for key in ("score", "macs")]
    if len({t["macs"] for t in fit}) == len(fit):  # no ties: the textbook formula
        n = len(fit)
        expected = 1 - 6 * float(((ranks[0] - ranks[1]) ** 2).sum()) / (n * (n * n - 1))
        assert f"multiply-adds {expected:+.2f}" in table
    assert "only the front was trained" in table
    assert (made.folder.parent / "search.png").stat().st_size > 5000


def test_the_score_of_a_trial_is_that_of_the_net_built_anew(scored, tiny):
    made, _ = scored
    design = load_search(made.folder.parent)
    space = load_space(tiny)
    one = next(t for t in results(made)["trials"] if t["fits"])
    torch.manual_seed(design.seed)
    model = fv.build(replace(space.config(space.parse(one["net"])), num_classes=10))
    x, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)  # zen looks at the shape only
    assert score("zen(repeats=2)", model, (x, labels)) == pytest.approx(one["score"], rel=1e-6)


@pytest.fixture(scope="module")
def shared(tiny, tmp_path_factory):
    """A search by a supernet in so little time that it is hardly trained."""
    return search(
        "digits",
        tiny,
        evaluate="supernet(epochs=2)",
        budget=Budget(time_s=1.0),
        trials=8,
        runs=tmp_path_factory.mktemp("runs"),
        **SHORT,
    )


def test_a_search_by_a_supernet_trains_it_once(shared):
    folder = shared.folder.parent
    about = json.loads((folder / ABOUT).read_text())
    assert about["steps"] == 8 and 0 < about["seconds"] == ahead_s(folder)  # of 8 steps at least, whatever the time
    trials = results(shared)["trials"]
    assert all(t["score_name"] == "supernet accuracy" and t["val_accuracy"] is None for t in trials)
    assert results(shared)["winner"] == max(trials, key=lambda t: t["score"])["net"]
    assert shared.summary["search"]["seconds"] >= about["seconds"]
    before = (folder / WEIGHTS).stat().st_mtime_ns
    prepare(lambda: pytest.fail("it is there"), load_search(folder), folder, silent, lambda: False)
    assert (folder / WEIGHTS).stat().st_mtime_ns == before


def test_a_trained_supernet_tells_what_its_nets_are_worth(shared, tmp_path):
    design = replace(load_search(shared.folder.parent), evaluate="supernet(epochs=5)", budget=Budget(), pictures=1000)
    dataset, space = opened(design)
    scene = material(design, space, dataset, tuple, tmp_path)
    prepare(lambda: scene, design, tmp_path, silent, lambda: True)
    assert not (tmp_path / WEIGHTS).exists()  # stopped
    prepare(lambda: scene, design, tmp_path, silent, lambda: False)
    noted = {}
    value = evaluator(scene)
    found = [value(net, noted.__setitem__) for net in (largest(space), smallest(space))]
    assert all(v > 0.2 for v in found)  # chance is 0.1
    assert noted == {"score_name": "supernet accuracy", "score": found[1]}
    assert value(largest(space), noted.__setitem__) == found[0]


def test_a_short_training_begins_as_the_recipe_says(shared, tmp_path):
    design = load_search(shared.folder.parent)
    dataset, space = opened(design)
    scene = material(
        replace(design, proxy=replace(design.proxy, init=("zero_gamma",))), space, dataset, tuple, tmp_path
    )
    base = space.config(largest(space))
    chain = replace(base, stages=(replace(base.stages[0], depth=1, skip="none"),), num_classes=10)
    with pytest.raises(fv.ConfigError, match="no residual branch"):
        train_short(scene, chain, {}.__setitem__)


def test_a_supernet_starts_with_layers_that_add_nothing():
    torch.manual_seed(0)
    supernet = Supernet(SPACES["mobilenet"](resolution=16, num_classes=5, widths=(0.5,)))
    space = supernet.space
    deep = largest(space)
    shallow = space.complete([UNUSED] * len(deep), lambda i: 0 if space.choices[i].name.endswith("depth") else deep[i])
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def out(net):
        return supernet.train()(x, net, regularised=False)

    def pull():
        grads = torch.autograd.grad(out(deep).logsumexp(1).sum(), list(supernet.parameters()), allow_unused=True)
        return torch.stack([g.norm() for g in grads if g is not None]).norm()

    before = pull()
    assert not torch.allclose(out(deep), out(shallow), atol=0.1)
    assert quiet(supernet, 0) == 32  # gain and bias of the fixed first block and of 3 layers in each of 5 units
    assert torch.allclose(out(deep), out(shallow), atol=1e-6) and pull() < before / 3


def test_what_stands_without_a_shortcut_in_some_nets_is_not_silenced():
    torch.manual_seed(0)
    base = fv.variant("mnasnet_small")
    base = replace(base, stages=tuple(replace(s, depth=2) for s in base.stages[:3]), head=32, resolution=16)
    skips = [Choice(f"stages.{i}.skip", ("identity", "none")) for i in (1, 2)]
    supernet = Supernet(Space(skips, name="skips", base=replace(base, num_classes=5)))
    quiet(supernet, 0)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for net in supernet.space.enumerate():
        supernet.train()(x, net, regularised=False).logsumexp(1).sum().backward()
        stem = next(p for name, p in supernet.weights.items() if name.endswith("weight") and p.ndim == 4)
        assert stem.grad.abs().sum() > 0
        stem.grad = None


@pytest.mark.parametrize(
    ("design", "reason"),
    [
        ({"evaluate": "zenn"}, "did you mean zen"),
        ({"evaluate": "train(epochs=3)"}, "takes no options"),
        ({"evaluate": "supernet(epochs=0)"}, "epochs from 1"),
        (
            {"evaluate": "zen", "reward": "tunas", "budget": Budget(max_macs=10**9)},
            "weighs an accuracy, and zen is none",
        ),
        ({"evaluate": "supernet", "ray": "local"}, "this machine's folder"),
    ],
)
def test_wrong_evaluators_are_refused_before_anything_is_written(design, reason, tiny, tmp_path):
    with pytest.raises(fv.ConfigError, match=reason):
        search("digits", tiny, runs=tmp_path / "runs", **design)
    assert not (tmp_path / "runs").exists()


def test_what_the_sampler_gets_of_a_score_is_positive_and_in_its_order():
    values = [-1e9, -708.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 143.2, 2.2e8, 2.2e8 + 1]
    found = [positive(v) for v in values]
    assert all(a < b for a, b in itertools.pairwise(found)) and found[0] > 0
    assert positive(3.0) == pytest.approx(math.log(1 + 3 + math.sqrt(10)), abs=1e-12)


def test_a_short_training_below_the_median_is_given_up_with_the_median_gain():
    known = [Found((i,), (0.5,), {"curve": [0.1 * i, 0.1 * i + 0.02 * i]}, i) for i in range(8)]  # median .35, gain .07
    assert hopeless([0.2], 2, known) == pytest.approx(0.07)
    assert hopeless([0.4], 2, known) is None and hopeless([0.2], 2, known[:7]) is None
    assert hopeless([0.2, 0.3], 2, known) is None
