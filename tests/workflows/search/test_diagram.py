"""A network block by block: nothing is lost, blocks are those of the family, gates and depthwise kernels are named."""

import pytest
from tiny import small_config

from foveate.cost.count import cost
from foveate.workflows.search.diagram import block_of, diagram, parts, text
from foveate.zoo import FAMILIES, variant


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_of_every_family_add_up(family):
    config = small_config(family)
    found, whole = parts(config), cost(config)
    assert (sum(p.macs for p in found), sum(p.params for p in found)) == (whole.macs, whole.params)
    assert len({p.name for p in found}) == len(found) > 1 and all(p.made_of and p.output for p in found)
    assert diagram(found[:3]).startswith(b"\x89PNG")


def test_a_block_says_what_it_is_made_of():
    found = {p.name: p for p in parts(variant("mobilenetv3_small_050"))}
    assert found["blocks.0.0"].made_of == "3x3 /2 depthwise, SqueezeExcite, 1x1"
    assert found["blocks.0.0"].output == (8, 56, 56)
    assert found["conv_head"].made_of == "1x1" and found["conv_head"].output == (1024, 1, 1)  # of one pixel, no gate
    lines = text(list(found.values()))
    assert len({len(line) for line in lines}) == 1 and lines[0].startswith("block")


BLOCKS = {
    "blocks.1.0.conv_pw": "blocks.1.0",
    "conv_stem": "conv_stem",
    "features.9": "features.9",
    "features.denseblock1.denselayer2.conv1": "features.denseblock1",
    "": "",
}


def test_layers_belong_to_blocks():
    assert {layer: block_of(layer) for layer in BLOCKS} == BLOCKS
