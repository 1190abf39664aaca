"""Skips by attention over anchor points: log-probabilities and gradients against a second writing, depth, rewards."""

import numpy as np
import pytest
import torch

from foveate.errors import ConfigError
from foveate.search import load_space
from foveate.search.samplers.anchors import AnchorPolicy
from foveate.search.samplers.controller import Controller
from foveate.search.samplers.searcher import History
from foveate.search.space import UNUSED

SPACE = load_space("nas(layers=6, least=4)")
HIDDEN = 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def second_writing(p, net, depth):
    """log p of a net by the formulas: an LSTM in numpy, gates in PyTorch's order (input, forget, cell, output)."""

    def lstm(number, x, h, c):
        gates = p[f"cells.{number}.weight_ih"] @ x + p[f"cells.{number}.bias_ih"]
        gates = gates + p[f"cells.{number}.weight_hh"] @ h + p[f"cells.{number}.bias_hh"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    zeros = np.zeros(HIDDEN)
    state, read, total, anchors = [(zeros, zeros)] * 2, zeros, 0.0, []
    words = iter(net[1:])

    def step():
        low = lstm(0, read, *state[0])
        return [low, lstm(1, low[0], *state[1])]

    for _ in range(depth):
        for name in ("height", "width", "filters"):
            state = step()
            scores, word = p[f"heads.{name}.weight"] @ state[1][0] + p[f"heads.{name}.bias"], next(words)
            total += scores[word] - np.log(np.exp(scores).sum())
            read = p[f"embeddings.{name}.weight"][word]
        state = step()
        here = state[1][0]
        for there in anchors:
            inner = np.tanh(p["previous.weight"] @ there + p["current.weight"] @ here)
            chance = sigmoid(p["score.weight"][0] @ inner)
            total += np.log(chance if next(words) else 1 - chance)
        anchors.append(here)
        read = p["behind_anchor"]
    return total


def grown(seed=0):
    """A policy in float64 with weights large enough to matter, and a net of four layers and one of six."""
    policy = AnchorPolicy(SPACE, HIDDEN, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(10)
    drawn = [policy.sample(1, torch.Generator().manual_seed(3), depth) for depth in (4, 6)]
    return policy, [nets[0] for nets, _ in drawn], [logp.item() for _, logp in drawn]


def test_log_probabilities_are_those_of_a_second_writing():
    policy, nets, drawn = grown()
    values = {name: t.detach().numpy() for name, t in policy.named_parameters()}
    expected = [second_writing(values, net, depth) for net, depth in zip(nets, (4, 6), strict=True)]
    assert policy(nets)[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert drawn == pytest.approx(expected, abs=1e-5)
    assert nets[0][1 + 4 * 3 + 6 :] == (UNUSED,) * (2 * 3 + 4 + 5)


def test_gradients_are_the_differences_of_the_second_writing():
    policy, nets, _ = grown()
    values = {name: t.detach().numpy().copy() for name, t in policy.named_parameters()}
    policy(nets)[0].double().sum().backward()
    draw = np.random.default_rng(0)
    for name, parameter in policy.named_parameters():
        for _ in range(3):
            at = tuple(int(draw.integers(side)) for side in parameter.shape)
            ends = []
            for move in (1e-5, -1e-5):
                moved = values | {name: values[name].copy()}
                moved[name][at] += move
                ends.append(sum(second_writing(moved, net, d) for net, d in zip(nets, (4, 6), strict=True)))
            slope = (ends[0] - ends[1]) / 2e-5
            assert parameter.grad[at].item() == pytest.approx(slope, abs=2e-5), (name, at)


def test_nets_grow_by_two_layers_when_it_is_time():
    made = Controller(SPACE, anchors=True, grow=3, hidden=4)
    assert [made.depth(n) for n in (0, 2, 3, 5000)] == [4, 4, 6, 6]
    history = History(SPACE)
    found = []
    for i in range(5):
        net = made.propose(history, np.random.default_rng(i))
        history.add(net, (0.5,))
        found.append(len(SPACE.config(net).nodes))
    assert found == [4] * 3 + [6] * 2


def test_the_reward_is_the_accuracy_cubed():
    made = Controller(SPACE, anchors=True, reward="cubed", hidden=4)
    assert made._rewards([0.5, 1.0]).tolist() == [0.125, 1.0]
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        made._rewards([0.5, 71.0])


def test_it_is_refused_where_there_are_no_layers_with_skips():
    for name in ("mnasnet", "nasbench201"):
        with pytest.raises(ConfigError, match="take nas"):
            Controller(load_space(name), anchors=True)
    with pytest.raises(ConfigError, match="needs anchors"):
        Controller(SPACE, grow=5)
    with pytest.raises(ConfigError, match="6 layers; the space has 5"):
        AnchorPolicy(load_space("nas(layers=5)"), 4, torch.Generator()).sample(1, torch.Generator(), 6)
    with pytest.raises(ConfigError, match="reward is one of"):
        Controller(SPACE, reward="squared")


def test_a_state_comes_back():
    one, other = (Controller(SPACE, anchors=True, hidden=6, seed=seed) for seed in (0, 9))
    nets, _ = one.policy.sample(10, torch.Generator().manual_seed(0))
    one.update(nets, torch.linspace(-1, 1, 10))
    other.load(one.state())
    a, b = (c.policy.sample(8, torch.Generator().manual_seed(5))[0] for c in (one, other))
    assert a == b


def worth(config):
    """A made-up accuracy of a net: large when kernels grow and each layer reads the one before it and no other."""
    kernels = sum(a.kernel[0] >= b.kernel[0] for b, a in zip(config.nodes, config.nodes[1:], strict=False))
    chain = sum(node.inputs == (i - 1,) for i, node in enumerate(config.nodes) if i)
    wide = sum(node.width == 64 for node in config.nodes)
    return (kernels + chain + wide) / (3 * len(config.nodes) - 2)


@pytest.mark.thorough
def test_after_500_nets_it_is_ahead_of_chance():
    """Means of the last 100 nets; and the best of 500."""
    space = load_space("nas(layers=4)")
    made, history, chance = Controller(space, anchors=True, reward="cubed", hidden=35, lr=0.006), History(space), []
    for i in range(500):
        rng = np.random.default_rng(i)
        net = made.propose(history, rng)
        history.add(net, (worth(space.config(net)),))
        chance.append(worth(space.config(space.sample(rng))))
    found = [values[0] for values in history.values]
    assert np.mean(found[-100:]) > np.mean(chance) + 0.2
    assert max(found) >= max(chance)
