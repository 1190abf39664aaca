"""The whole suite and its long forms: `scripts/test --all` adds what is marked thorough."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the long forms too: every point instead of chosen ones")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: every point of what the suite tries at chosen ones; with --all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long forms leave the run, uncounted, unless they are asked for."""
    if not config.getoption("--all"):
        long = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
