"""Which tests run: the suite, with `--all` its long forms too, with `--fast` what takes little of the loop of work."""

import os
import tempfile
from pathlib import Path

import pytest

# what a developer has fetched before must not start networks of the tests
os.environ["HF_HOME"] = os.environ["TORCH_HOME"] = os.path.join(tempfile.gettempdir(), "foveate-tests-nothing-cached")
os.environ.pop("FOVEATE_WEIGHTS", None)

HERE = Path(__file__).parent
# Folders and files that --fast leaves out: they train, export, start processes or build published networks at length.
SLOW = (
    *("backbones", "serve", "workflows", "zoo/families", "cli/test_cli.py", "compress/test_couple.py"),
    *("compress/test_refit.py", "compress/test_criteria.py", "compress/test_fresh_process.py", "cost/test_memory.py"),
    *("compress/test_lrpet.py", "compress/test_slice.py", "deploy/test_export.py", "deploy/test_profile_measure.py"),
    *("deploy/test_quantise.py", "deploy/test_runtimes.py", "layers/test_deploy.py", "layers/test_two_processes.py"),
    *("search/test_scaling.py", "search/test_spaces.py", "search/test_supernet.py", "search/test_workers.py"),
    *("train/test_gradinit.py", "train/test_ranks.py", "train/test_refinements.py", "train/test_resume.py"),
    *("train/test_zero_gamma.py", "test_golden_losses.py", "test_readme.py", "test_typed.py", "test_wheel.py"),
    *("test_guides.py", "test_notebooks.py", "deploy/formats", "runs/test_estimator.py", "cli/test_json.py"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the long forms too: every point instead of chosen ones")
    parser.addoption("--fast", action="store_true", help="without slow tests and slow files: for the loop of work")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: every point of what the suite tries at chosen ones; with --all")
    config.addinivalue_line("markers", "slow: not with --fast")
    if config.getoption("--all") and config.getoption("--fast"):
        raise pytest.UsageError("--all and --fast: give one of them")


def is_slow(item: pytest.Item) -> bool:
    place = item.path.relative_to(HERE).as_posix()
    return item.get_closest_marker("slow") is not None or f"{place}/".startswith(tuple(f"{name}/" for name in SLOW))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What was not asked for leaves the run, uncounted."""
    everything, fast = config.getoption("--all"), config.getoption("--fast")
    left_out = [
        item for item in items if (item.get_closest_marker("thorough") and not everything) or (fast and is_slow(item))
    ]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]
