"""Servers that several files of tests ask."""

import pytest
from serving import colour_model, served


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """One with the usual limits."""
    folder = tmp_path_factory.mktemp("served")
    colour_model(folder / "colours.onnx")
    with served(folder, folder / "colours.onnx", "--port", "0") as running:
        yield running
