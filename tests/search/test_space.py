"""Spaces: sizes, canonical nets, conditions, neighbours; the two tabular spaces by their published counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import ConfigError
from foveate.search import SPACES
from foveate.search.space import UNUSED, Choice, Space

WIDE = Space(
    [
        Choice("block", ("plain", "wide", "none")),
        Choice("width", (8, 16), when=(("block", ("plain", "wide")),)),
        Choice("gate", (True, False), when=(("block", ("wide",)),)),
    ]
)


def test_macro_has_6561_names_and_3969_nets():
    space = SPACES["nasbench_macro"]()
    nets = list(space.enumerate())
    assert space.size == len(nets) == 6561
    assert len({space.canonical(n) for n in nets}) == 3969
    assert space.text(space.canonical(space.parse("00201020"))) == "00210020"


def test_201_has_15625_cells_of_which_341_reach_no_output():
    space = SPACES["nasbench201"]()
    nets = list(space.enumerate())
    assert space.size == len(nets) == 5**6
    cut = space.parse("000000")
    assert sum(space.canonical(n) == cut for n in nets) == 341


@pytest.mark.parametrize("name", SPACES)
def test_canonical_is_idempotent_and_text_comes_back(name):
    space, rng = SPACES[name](), np.random.default_rng(0)
    for _ in range(200):
        net = space.sample(rng)
        once = space.canonical(net)
        assert space.canonical(once) == once and space.parse(space.text(net)) == net
        assert space.encode(space.decode(net)) == net


def test_features_of_equal_cells_are_equal():
    space, rng = SPACES["nasbench201"](), np.random.default_rng(1)
    nets = np.array([space.sample(rng) for _ in range(300)])
    same = np.array([space.canonical(tuple(n)) for n in nets.tolist()])
    assert np.array_equal(space.features(nets), space.features(same))


def test_a_conditional_choice_applies_where_its_condition_holds():
    nets = list(WIDE.enumerate())
    assert WIDE.size == len(nets) == 2 + 4 + 1
    assert set(nets) == {
        *itertools.product((0,), (0, 1), (UNUSED,)),
        *itertools.product((1,), (0, 1), (0, 1)),
        (2, UNUSED, UNUSED),
    }
    with pytest.raises(ConfigError):
        WIDE.check((2, 0, UNUSED))


def test_mutants_are_other_nets_one_choice_away():
    space, rng = SPACES["nasbench_macro"](), np.random.default_rng(2)
    for _ in range(100):
        net = space.sample(rng)
        other = space.mutate(net, rng)
        assert space.canonical(other) != space.canonical(net)
        assert sum(a != b for a, b in zip(net, other, strict=True)) == 1


def test_neighbours_are_all_nets_one_choice_away():
    space = SPACES["nasbench201"]()
    net = space.parse("333333")
    assert len(space.neighbours(net)) == len(set(space.neighbours(net))) <= 24
    assert all(space.canonical(n) == n != net for n in space.neighbours(net))


def test_what_is_no_net_is_named():
    space = SPACES["nasbench201"]()
    for word in ("33333", "333339", "abcdef"):
        with pytest.raises(ConfigError, match="is no net of space nasbench201"):
            space.parse(word)
    with pytest.raises(ConfigError, match="not an earlier choice"):
        Space([Choice("a", (1, 2), when=(("b", (1,)),)), Choice("b", (1, 2))])


@st.composite
def spaces(draw):
    """Up to five choices, of up to three values each; a later one may depend on an earlier one."""
    choices = []
    for i in range(draw(st.integers(1, 5))):
        values = draw(st.sampled_from([("a", "b"), (1, 2, 3), (True, False), (8, 16, 32), ("only",), ("x", 0.5)]))
        parent = draw(st.sampled_from([None, *choices]))
        when = ((parent.name, tuple(draw(st.sets(st.sampled_from(parent.values), min_size=1)))),) if parent else ()
        choices.append(Choice(f"choice{i}", values, when=when))
    return Space(choices)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
def test_any_net_of_any_space_comes_back_and_knows_its_neighbours(space, seed):
    nets, rng = list(space.enumerate()), np.random.default_rng(seed)
    assert len(nets) == len(set(nets)) == space.size
    net = space.sample(rng)
    assert net in nets and space.check(net) == net
    assert space.encode(space.decode(net)) == net == space.parse(space.text(net))
    assert len({space.text(other) for other in nets}) == space.size  # a word stands for one net

    found = space.neighbours(net)
    assert net not in found and len(set(found)) == len(found) and set(found) <= set(nets)
    # one choice of both differs; others differ only where they apply to one of the two alone
    for other in found:
        both = [i for i, pair in enumerate(zip(net, other, strict=True)) if UNUSED not in pair and pair[0] != pair[1]]
        assert len(both) == 1
    alone = sum(len(space.choices[i].values) - 1 for i, token in enumerate(net) if token != UNUSED)
    assert len(found) == alone
    other = space.mutate(net, rng)
    assert other in nets and (other != net or alone == 0)
