"""The supernet: its nets are the zoo's, slices mean what they say, statistics and gradients are those by hand."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate as fv
from foveate.errors import ConfigError, FoveateError
from foveate.search import SPACES
from foveate.search.sandwich import train_supernet
from foveate.search.space import Choice, Space
from foveate.search.supernet import Supernet, corners, edges, extract, largest, shared_names, smallest

SMALL = {"resolution": 16, "num_classes": 5}


def spaces():
    return {
        "mnasnet": SPACES["mnasnet"](skeleton="small", **SMALL),
        "ofa": SPACES["mobilenet"](skeleton="ofa", **SMALL),
        "fbnet": SPACES["mobilenet"](skeleton="fbnet", **SMALL),
    }


@pytest.fixture(scope="module")
def supernets():
    torch.manual_seed(0)
    made = {name: Supernet(space) for name, space in spaces().items()}
    for supernet in made.values():
        for p in supernet.parameters():  # gains and biases that differ: at their start many slices look alike
            if p.ndim == 1:
                p.data.add_(0.2 * torch.randn_like(p))
    return made


def pictures(n=2, seed=0, dtype=torch.float32):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture(scope="module")
def precise(supernets):
    """The same in float64."""
    return {name: copy.deepcopy(supernet).double() for name, supernet in supernets.items()}


def zoo(config, state):
    """The zoo's network with these numbers, all of them."""
    with torch.device("meta"):
        model = fv.build(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


@pytest.mark.parametrize("name", ["mnasnet", "ofa", "fbnet"])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_an_extracted_net_computes_what_the_supernet_does(name, dtype, most, supernets, precise):
    supernet = (supernets if dtype == torch.float32 else precise)[name]
    space, rng, x = supernet.space, np.random.default_rng(1), pictures(dtype=dtype)
    for net in (largest(space), smallest(space), *(space.sample(rng) for _ in range(1))):
        statistics = supernet.statistics(net, [pictures(seed=s, dtype=dtype) for s in (1, 2)])
        model = zoo(space.config(net), extract(supernet, net, statistics))
        supernet.eval()
        with torch.no_grad():
            ours, theirs = supernet(x, net, statistics), model(x)
        assert (ours - theirs).abs().max() <= most * max(1.0, float(theirs.abs().max()))


def embedded(value, like, fill=0.0):
    """value within zeros of another shape: first channels, middle of a kernel."""
    pads = []
    for axis in reversed(range(like.ndim)):
        more = like.shape[axis] - value.shape[axis]
        pads += [more // 2, more - more // 2] if like.ndim == 4 and axis > 1 else [0, more]
    return F.pad(value, pads, value=fill)


CHANGES = {  # of the largest net; widths that would make or end a shortcut are left alone
    "kernel": (("mnasnet", {"2.kernel": 3, "5.kernel": 3}), ("ofa", {"1.1.kernel": 3, "4.0.kernel": 5})),
    "expansion": (("mnasnet", {"3.expand": 3}), ("ofa", {"0.0.expand": 3, "2.1.expand": 4})),
    "depth": (("mnasnet", {"3.depth": 3, "5.depth": 2}), ("ofa", {"0.depth": 2, "3.depth": 3})),
    "width": (("mnasnet", {"3.width": 32, "5.width": 72}), ("ofa", {"width": 0.5})),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_smaller_net_is_the_largest_one_with_zeros_in_the_rest(what, which, precise):
    """What a net has beyond its sub-net gets zeros: no channel, tap or layer of those can then do anything."""
    name, changes = CHANGES[what][which]
    supernet = precise[name]
    space, whole = supernet.space, largest(supernet.space)
    tokens = list(whole)
    for i, choice in enumerate(space.choices):
        if choice.name in changes:
            tokens[i] = choice.values.index(changes[choice.name])
    net = space.complete(tokens)
    assert net != whole
    statistics = supernet.statistics(net, [pictures(dtype=torch.float64)])
    part = extract(supernet, net, statistics)
    state, statistics_of_all = {}, supernet.statistics(whole, [pictures(dtype=torch.float64)])
    for key, like in extract(supernet, whole, statistics_of_all).items():
        fill = float(key.endswith("running_var"))
        state[key] = embedded(part[key], like, fill) if key in part else torch.full_like(like, fill)
    model = zoo(space.config(whole), state)
    x = pictures(seed=9, dtype=torch.float64)
    supernet.eval()
    with torch.no_grad():
        ours, theirs = supernet(x, net, statistics), model(x)
    assert (ours - theirs).abs().max() < 1e-10 * float(theirs.abs().max())
    with torch.no_grad():
        other = supernet(x, whole, statistics_of_all)
    assert (ours - other).abs().max() > 1e-3


def test_statistics_are_those_of_torch(supernets):
    from torch.optim.swa_utils import update_bn

    supernet = supernets["ofa"]
    net = supernet.space.sample(np.random.default_rng(4))
    batches = [pictures(6, seed) for seed in range(3)]
    found = supernet.statistics(net, batches)
    model = fv.build(supernet.space.config(net))
    model.load_state_dict(supernet.slices(net), strict=False)
    update_bn(batches, model)
    expected = dict(model.named_buffers())
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[key], value, atol=1e-5) for key, value in expected.items())
    with pytest.raises(FoveateError, match="no batch"):
        supernet.statistics(net, [])
    with pytest.raises(FoveateError, match="no running statistics"):
        supernet.eval()(batches[0], net)


def test_corners_hold_every_weight_that_a_net_can_have(supernets):
    for supernet in supernets.values():
        rng = np.random.default_rng(5)
        assert len(corners(supernet.space)) <= 5
        for _ in range(10):
            supernet.slices(supernet.space.sample(rng))
    whole, least = spaces()["mnasnet"].decode(largest(spaces()["mnasnet"])), smallest(spaces()["mnasnet"])
    assert whole["3.op"] == "mbconv" and whole["3.expand"] == 6 and whole["3.depth"] == 5 and whole["3.se"] is True
    assert spaces()["mnasnet"].decode(least)["3.width"] == 24


def test_edges_show_every_word_beside_every_kind_of_block():
    space = spaces()["mnasnet"]
    seen = {(values["3.op"], values["3.skip"]) for values in map(space.decode, edges(space))}
    assert seen == set(itertools.product(("sepconv", "mbconv", "conv"), ("identity", "pool", "none")))
    assert edges(spaces()["ofa"]) == corners(spaces()["ofa"]) == [largest(spaces()["ofa"])]


def tiny():
    """Two choices over a small net without dropout."""
    base = fv.variant("mnasnet_small")
    base = fv.replace(base, stages=base.stages[:2], head=16, num_classes=3, in_chans=3, resolution=16, dropout=0.0)
    choices = [Choice("stages.1.kernel", (3, 5)), Choice("stages.1.expand", (2, 3)), Choice("stages.1.width", (8, 16))]
    return Space(choices, name="tiny", base=base)


def test_a_step_has_the_gradients_of_the_largest_net_and_of_the_others_taught_by_it():
    torch.manual_seed(0)
    space = tiny()
    supernet = Supernet(space).double()
    x, labels = pictures(6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    whole, rng = largest(space), np.random.default_rng(3)
    nets = [whole, smallest(space), space.sample(rng), space.sample(rng)]
    expected = {name: torch.zeros_like(p) for name, p in supernet.weights.items()}
    for net in nets:
        model = fv.build(space.config(net)).double().train()
        model.load_state_dict({k: v.detach().clone() for k, v in supernet.slices(net).items()}, strict=False)
        logits = model(x)
        if net is whole:
            taught = logits.detach().softmax(1)
            (-logits.log_softmax(1)[range(6), labels]).mean().backward()
        else:
            (-(taught * logits.log_softmax(1)).sum(1)).mean().backward()
        for key, p in model.named_parameters():
            name = shared_names(model)[key]
            expected[name] += embedded(p.grad, expected[name])
    before = {name: p.detach().clone() for name, p in supernet.weights.items()}
    steps = train_supernet(supernet, [(x, labels)], lambda s: torch.optim.SGD(s.parameters(), 0.5), clip=0.0, seed=3)
    assert len(list(steps)) == 1
    for name, p in supernet.weights.items():
        assert torch.allclose(before[name] - 0.5 * expected[name], p, atol=1e-12)


def test_training_teaches_the_largest_net_and_the_smallest():
    torch.manual_seed(0)
    supernet, source = Supernet(tiny()), torch.Generator().manual_seed(0)

    def batches():
        for _ in range(40):
            labels = torch.randint(3, (24,), generator=source)
            x = 0.3 * torch.randn(24, 3, 16, 16, generator=source)
            x[range(24), labels] += 1.0  # the brightest colour is the class
            yield x, labels

    rates = []
    losses = list(
        train_supernet(
            supernet,
            batches(),
            lambda s: torch.optim.SGD(s.parameters(), 0.0, momentum=0.9),
            rate=lambda step: rates.append(step) or 0.1,
        )
    )
    assert rates == list(range(40)) and losses[-1] < 0.3 * losses[0]
    x, labels = next(batches())
    for net in (largest(supernet.space), smallest(supernet.space)):
        statistics = supernet.statistics(net, [next(batches())[0] for _ in range(4)])
        with torch.no_grad():
            found = supernet.eval()(x, net, statistics).argmax(1)
        assert (found == labels).float().mean() > 0.9


def test_spaces_that_do_not_nest_are_refused_in_one_line():
    base = fv.variant("mnasnet_small")
    other = Space([Choice("layers.norm", ("batch_norm", "iter_norm"))], base=base, name="norms")
    with pytest.raises(ConfigError, match="batch norms only"):
        Supernet(other)
    space = Space([Choice("kind", ("a", "b")), Choice("width", (8, 16))], name="odd", make=odd)
    with pytest.raises(ConfigError, match="not nested"):
        Supernet(space).slices((1, 0))


def odd(values):
    """A space where the wider net has the narrower head."""
    base = fv.variant("mnasnet_small")
    return fv.replace(base, stem=values["width"], head=32 - values["width"])


def test_weights_are_shared_by_the_kinds_of_their_modules():
    names = shared_names(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Sequential(nn.Linear(1, 1))))
    assert names == {
        "0.weight": "0:Conv2d/weight",
        "1.0.weight": "1:Sequential/0:Linear/weight",
        "1.0.bias": "1:Sequential/0:Linear/bias",
    }
