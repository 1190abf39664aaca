"""The notebooks run from the first cell to the last, and are stored without what they printed."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


SHORTER = {"time_s=20": "time_s=5", "seeds=3": "seeds=2", "epochs=3": "epochs=1"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stored_without_outputs_and_listed(path):
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(cells) >= 4 and all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert path.stat().st_size < 20_000
    assert any(long in cell.source for cell in cells for long in SHORTER)
    assert f"docs/notebooks/{path.name}" in (ROOT / "docs" / "notebooks" / "index.md").read_text("utf-8")


@pytest.mark.filterwarnings("ignore")  # of the kernel and its loop
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    kernel = tmp_path / "jupyter" / "kernels" / "here"
    kernel.mkdir(parents=True)
    words = ", ".join(f'"{w}"' for w in (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"))
    (kernel / "kernel.json").write_text(f'{{"argv": [{words}], "display_name": "here", "language": "python"}}')
    book = nbformat.read(path, 4)
    for cell in book.cells:  # the same calls, shorter
        for long, short in SHORTER.items():
            cell.source = cell.source.replace(long, short)
    NotebookClient(book, timeout=250, kernel_name="here", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(out.get("text", "") for c in book.cells if c.cell_type == "code" for out in c.outputs)
    assert {
        "fit_and_look": "strangeness",
        "compare_two_layers": "multiply-adds",
        "compress_and_deploy": "True\n",
    }[path.stem] in said
