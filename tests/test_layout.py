"""The rules of the house, read from the source: floors, no circles, short files, no pickle, light imports."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "foveate"
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 400
FLOORS = {
    0: {"config", "errors", "files"},
    1: {"layers"},
    2: {"zoo"},
    3: {"cost", "data", "analysis"},
    4: {"train", "compress", "search", "classic"},
    5: {"recipes", "deploy"},
    6: {
        "fit",
        "pictures",
        "field",
        "pace",
        "candidates",
        "race",
        "run",
        "plan",
        "__main__",
        "transfer",
        "ablate",
        "explore",
        "finish",
        "report",
        "report_plots",
        "report_ladder",
        "shrink",
        "ladder",
        "rung",
        "rung_int8",
        "scale",
        "doctor",
        "cli",
    },
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
ONE_HOUSE = {
    0,
    6,
}  # on the lowest and the highest floor the rooms are single files that know each other; cycles are refused below
# floor 0 holds records and bytes; the command line starts without these
LIGHT = {"config", "errors", "files", "cli", "__init__"}
HEAVY_AT_TOP = {
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "sklearn",
    "matplotlib",
    "openvino",
    "nncf",
    "optuna",
    "starlette",
    "uvicorn",
    "timm",
}
THIRD_PARTY_OF_LIGHT = {"pydantic", "typer"}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """foveate.zoo.resnet -> zoo; the package's own __init__ is "__init__"."""
    return [*name.split("."), "__init__"][1]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path: Path, *, top: bool = False) -> set[str]:
    """Names of the modules that a file imports: everywhere, or (top) only when it is loaded."""
    known = {module(p) for p in FILES}
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.update(full if (full := f"{node.module}.{a.name}") in known else str(node.module) for a in node.names)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not (top and (later or typing_only)):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(tree(path))
    return found


def fresh(code: str) -> str:
    """stdout of a new Python process."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_only_from_lower_floors(path):
    here = room(module(path))
    if here == "__init__":
        return  # the public names, loaded lazily
    assert here in FLOOR, f"{path}: room {here} has no floor"
    for name in imports(path):
        if name == "foveate" or not name.startswith("foveate."):
            continue
        there = room(name)
        same = there == here or (FLOOR[there] == FLOOR[here] and FLOOR[here] in ONE_HOUSE)
        assert same or FLOOR[there] < FLOOR[here], (
            f"{path} on floor {FLOOR[here]} imports {name} on floor {FLOOR[there]}"
        )


def test_no_module_imports_itself_in_a_circle():
    names = {module(p) for p in FILES}
    graph = {module(p): {n for n in imports(p, top=True) if n in names} - {module(p)} for p in FILES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph[name]):
                if not name.startswith(f"{other}."):  # a package is loaded before what is in it
                    visit(other, (*way, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_is_short_and_well_named_and_says_what_it_is(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_LINES, f"{path}: over {MAX_LINES} lines"
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}, f"{path}: the name says nothing"
    assert not text.strip() or ast.get_docstring(tree(path)), f"{path}: the first line must say what the file is"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_open_keyword_lists_in_layers_and_zoo(path):
    for node in ast.walk(tree(path)) if room(module(path)) in ("layers", "zoo") else ():
        if isinstance(node, ast.FunctionDef | ast.Lambda) and node.args.kwarg and getattr(node, "body", None):
            protocol = isinstance(node, ast.FunctionDef) and ast.unparse(node.body[-1]) == "..."  # a type, not code
            assert protocol, f"{path}:{node.lineno}: **{node.args.kwarg.arg}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_is_unpickled_or_evaluated(path):
    unsafe = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    assert not {name.split(".")[0] for name in imports(path)} & unsafe, f"{path}: imports a pickle"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "os.system"), f"{path}:{node.lineno}: {name}"
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "torch.load":
                assert given.get("weights_only") == "True", (
                    f"{path}:{node.lineno}: torch.load without weights_only=True"
                )
            assert given.get("weights_only", "True") == "True", f"{path}:{node.lineno}: weights_only"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_heavy_packages_are_imported_where_they_are_used(path):
    outside = {name.split(".")[0] for name in imports(path, top=True)} - set(sys.stdlib_module_names) - {"foveate"}
    assert not outside & HEAVY_AT_TOP, f"{path}: {outside & HEAVY_AT_TOP} at the top"
    if room(module(path)) in LIGHT:
        assert outside <= THIRD_PARTY_OF_LIGHT, f"{path}: {outside - THIRD_PARTY_OF_LIGHT} at the top"


def test_importing_foveate_is_light():
    loaded = fresh("import foveate, sys; print(*sys.modules)").split()
    assert not {"torch", "torch._dynamo", "torchvision", "numpy", "PIL", "pydantic"} & set(loaded)


def test_the_public_names_load_neither_dynamo_nor_torchvision():
    code = "import foveate, sys; [getattr(foveate, n) for n in foveate.__all__]; print(*sys.modules)"
    heavy = {"torch._dynamo", "torchvision", "onnxruntime", "onnx", "sklearn", "matplotlib", "optuna"}
    assert not heavy & set(fresh(code).split())


def test_networks_without_values_load_no_dynamo():
    """A draw on the meta device does, which takes seconds."""
    code = (
        "import sys; from foveate.zoo.meta import shapes_only; from foveate.zoo import FAMILIES\n"
        "with shapes_only(): [f.module(next(iter(f.variants.values()))) for f in FAMILIES.values()]\n"
        "print(*sys.modules)"
    )
    assert "torch._dynamo" not in fresh(code).split()


def test_help_loads_no_torch():
    code = "import sys; from foveate.cli import main; code = main(['--help']); print(*sys.modules); sys.exit(code)"
    assert not {"torch", "numpy", "PIL", "torchvision", "rich", "pydantic"} & set(fresh(code).split())
