"""Fixtures of the data tests: the odd pictures, made once a session."""

from pathlib import Path

import pytest
from make_odd_images import ODD, Odd, make_all


@pytest.fixture(scope="session")
def odd_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every odd picture by its file name; what to expect of it stands in make_odd_images.ODD."""
    return make_all(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="session")
def odd_table() -> dict[str, Odd]:
    """What to expect of each odd picture: a reason of refusal, or pixels, tolerance and notes."""
    return ODD


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `good_name` or `bad_name` runs once for each odd picture of that kind."""
    for argument, refused in (("good_name", False), ("bad_name", True)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, [name for name, odd in ODD.items() if (odd.reason is not None) == refused])
