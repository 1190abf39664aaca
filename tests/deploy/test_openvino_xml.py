"""The .xml of an OpenVINO model is checked and written anew before OpenVINO is asked."""

import pytest

from foveate.deploy.openvino_xml import checked_xml
from foveate.errors import WeightsError


def net(layers, head='<?xml version="1.0"?>'):
    return f'{head}<net name="n" version="11"><layers>{layers}</layers><edges/></net>'.encode()


def layer(kind="ReLU", version="opset1", inside="", dims=(1, 3)):
    port = "".join(f"<dim>{n}</dim>" for n in dims)
    output = f'<output><port id="0">{port}</port></output>'
    return f'<layer id="0" name="a" type="{kind}" version="{version}">{inside}{output}</layer>'


def constant(offset, size):
    return layer("Const", inside=f'<data element_type="f32" shape="3" offset="{offset}" size="{size}"/>')


def test_a_good_graph_is_written_anew():
    made = checked_xml(net(layer() + constant(4, 12)), 16)
    assert made.startswith(b"<?xml") and checked_xml(made, 16) == made


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (net(layer(), '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'), "declares entities"),
        (net(layer(), '<!DOCTYPE net SYSTEM "file:///etc/passwd">'), "declares entities"),
        (net(layer()).decode().encode("utf-16"), "no UTF-8"),
        (b"\x08\x0a\x12\x04ORTM", r"not the \.xml"),
        (b"", r"not the \.xml"),
        (b"<html/>", "expected <net>"),
        (net("<a>" * 100 + "</a>" * 100), "in each other"),
        (net("<a/>" * 400_001), "over 400,000 elements"),
        (net(layer("Loop")), "operator Loop; loops and branches"),
        (net(layer("TensorIterator")), "operator TensorIterator"),
        (net(layer("Own", inside="<body/>")), "operator Own; loops"),
        (net(layer(version="extension")), 'of "extension"; only standard operators'),
        (net(layer(version="opset1; evil")), "only standard operators"),
        (net(constant(8, 12)), "outside the 16 bytes"),
        (net(constant(-4, 8)), "outside the 16 bytes"),
        (net(constant("9" * 30, 8)), "where a number is expected"),
        (net(layer("Broadcast", dims=(2**40,))), "operator Broadcast would make"),
    ],
)
def test_what_is_no_plain_classifier_is_refused(graph, words):
    with pytest.raises(WeightsError, match=words):
        checked_xml(graph, 16)
