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
FLOORS = (
    {"errors", "events", "config", "files"},
    {"layers"},
    {"zoo", "report"},
    {"data", "cost"},
    {"train", "compress", "search", "classic", "analysis"},
    {"recipes", "deploy", "backbones", "trust"},
    {"runs", "serve"},
    {"selection"},
    {"workflows"},
    {"cli", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
LOOSE = {"__init__", "__main__", *FLOORS[0]}  # the modules at the root
SUMMIT = {"fit": {"search", "compress"}, "papers": {"ablate"}}  # which workflow may know which others
# floor 0 holds records and bytes; the command line starts without these
LIGHT = {"config", "errors", "events", "files", "cli", "__init__"}
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
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """foveate.zoo.families.resnet.network -> zoo; the package's own __init__ is "__init__"."""
    return [*name.split("."), "__init__"][1]


MODULES = {module(path) for path in FILES}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


@functools.cache
def imports(path: Path, *, top: bool = False) -> set[str]:
    """Names of the modules that a file imports: everywhere, or (top) only when it is loaded."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found.update(name if name in MODULES else str(node.module) for name in names)
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


def test_every_room_has_a_floor_and_nothing_else_is_at_the_root():
    rooms = {room(module(path)) for path in FILES} - {"__init__"}
    assert rooms <= set(FLOOR)
    assert {path.stem for path in ROOT.glob("*.py")} == LOOSE
    files = {p.relative_to(ROOT).parts for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {parts[0] for parts in files if len(parts) == 1 and not parts[0].endswith(".py")} <= {"py.typed"}


def test_imports_run_down():
    """Rooms of one floor do not know each other; the single files at the root may, and circles are refused."""
    wrong = []
    for path in FILES:
        here = room(module(path))
        for name in imports(path) if here != "__init__" else ():  # the public names, loaded lazily
            there = room(name)
            if name.startswith("foveate.") and there != here and not FLOOR[there] < FLOOR[here]:
                wrong += [] if FLOOR[here] == FLOOR[there] and here in LOOSE else [f"{path} imports {name}"]
    assert not wrong


def test_only_fit_and_papers_know_other_workflows():
    wrong = []
    for path in FILES:
        here = module(path).split(".")
        for name in imports(path) if here[1:2] == ["workflows"] and len(here) > 2 else ():
            there = name.split(".")
            if there[1:2] == ["workflows"] and there[2:3] != here[2:3] and there[2] not in SUMMIT.get(here[2], ()):
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_no_module_imports_itself_in_a_circle():
    """All imports count, those inside functions too."""
    graph = {module(p): {n for n in imports(p) if n in MODULES} - {module(p), "foveate"} for p in FILES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for other in sorted(graph[name]):
                if not name.startswith(f"{other}."):  # a package is loaded before what is in it
                    visit(other, (*way, name))
            done.add(name)

    for name in sorted(set(graph) - {"foveate"}):
        visit(name, ())


def test_files_are_short_and_well_named_and_say_what_they_are():
    wrong = []
    for path in FILES:
        text = path.read_text("utf-8")
        table = path.name == "__init__.py" and text.count("\n") < 2  # a package that only passes a name on
        wrong += [f"{path}: over {MAX_LINES} lines"] if text.count("\n") > MAX_LINES else []
        wrong += [f"{path}: the name says nothing"] if path.stem in SAYS_NOTHING else []
        wrong += [f"{path}: what is it?"] if text.strip() and not table and not ast.get_docstring(tree(path)) else []
    assert not wrong


def test_no_open_keyword_lists_in_layers_and_zoo():
    wrong = []
    for path in FILES:
        for node in ast.walk(tree(path)) if room(module(path)) in ("layers", "zoo") else ():
            if isinstance(node, ast.FunctionDef | ast.Lambda) and node.args.kwarg and getattr(node, "body", None):
                if isinstance(node, ast.FunctionDef) and ast.unparse(node.body[-1]) == "...":
                    continue  # a type, not code
                wrong.append(f"{path}:{node.lineno}: **{node.args.kwarg.arg}")
    assert not wrong


def test_nothing_is_unpickled_or_evaluated():
    unsafe = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for path in FILES:
        wrong += [f"{path}: {name}" for name in imports(path) if name.split(".")[0] in unsafe]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                only = given.get("weights_only", "" if name == "torch.load" else "True") == "True"
                if name in ("eval", "exec", "os.system") or not only:
                    wrong.append(f"{path}:{node.lineno}: {name}")
    assert not wrong


def test_heavy_packages_are_imported_where_they_are_used():
    wrong = []
    for path in FILES:
        outside = {name.split(".")[0] for name in imports(path, top=True)} - set(sys.stdlib_module_names) - {"foveate"}
        # classes that derive from Optuna's and are pickled stand in a module of their own, imported inside functions
        allowed = {"optuna"} if module(path) == "foveate.search.samplers.bridge" else set()
        wrong += [f"{path}: {name}" for name in outside & HEAVY_AT_TOP - allowed]
        if room(module(path)) in LIGHT:
            wrong += [f"{path}: {name}" for name in outside - THIRD_PARTY_OF_LIGHT]
    assert not wrong


@pytest.mark.parametrize("which", ["rooms", pytest.param("modules", marks=pytest.mark.thorough)])
def test_every_module_can_be_imported_alone(which):
    """Each before all others, in one process: what is loaded of foveate is forgotten in between."""
    code = """
import importlib, sys
for name in sys.stdin.read().split():
    for old in [m for m in sys.modules if m == "foveate" or m.startswith("foveate.")]:
        del sys.modules[old]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""
    names = "\n".join(m for m in sorted(MODULES - {"foveate.__main__"}) if which == "modules" or m.count(".") == 1)
    done = subprocess.run([sys.executable, "-c", code], input=names, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


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
