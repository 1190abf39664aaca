"""What others build on: the public names, and that importing or asking for help does nothing but load."""

import subprocess
import sys

import pytest

import foveate

PUBLIC = [
    "Budget",
    "BudgetError",
    "Classifier",
    "ConfigError",
    "DataError",
    "Dataset",
    "Evaluation",
    "FoveateClassifier",
    "FoveateError",
    "Layers",
    "Preprocess",
    "Run",
    "WeightsError",
    "__version__",
    "ablate",
    "add_entry",
    "analyse",
    "build",
    "check",
    "compress",
    "cost",
    "create_model",
    "eval",
    "export",
    "fit",
    "list_models",
    "load",
    "load_plugin",
    "load_weights",
    "replace",
    "search",
    "set_path",
    "train",
    "variant",
]

# Python tells this hook of all that touches the world; anything but reading and loading ends the process with code 99.
AUDIT = """
import os, sys
FORBIDDEN = '''
subprocess.Popen os.system os.exec os.posix_spawn os.spawn os.fork os.forkpty pty.spawn socket.connect socket.bind
socket.getaddrinfo socket.gethostbyname socket.sendto urllib.Request os.mkdir os.rename os.remove os.rmdir os.link
os.symlink os.truncate os.chmod os.chown shutil.copyfile shutil.move shutil.rmtree tempfile.mkstemp tempfile.mkdtemp
'''.split()
def hook(event, args):
    writes = event == "open" and ((isinstance(args[1], str) and set(args[1]) & set("wax+"))
             or (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    if event in FORBIDDEN or (writes and args[0] != os.devnull):
        os.write(2, f"{event} {args}\\n".encode())
        os._exit(99)
sys.dont_write_bytecode = True
sys.addaudithook(hook)
"""


def audited(code: str, before: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-B", "-c", f"{before}\n{AUDIT}\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_public_names_are_these():
    assert sorted(foveate.__all__) == PUBLIC
    assert dir(foveate) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_had(name):
    assert getattr(foveate, name) is not None


def test_fit_train_and_cost_stay_functions_when_their_modules_are_imported():
    import foveate.compress
    import foveate.cost
    import foveate.search
    import foveate.train
    import foveate.workflows.fit

    assert all(callable(f) for f in (foveate.fit, foveate.train, foveate.cost, foveate.compress, foveate.search))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = foveate.nonsense


def test_every_error_has_its_exit_code():
    codes = {name: getattr(foveate, name).exit_code for name in PUBLIC if name.endswith("Error")}
    assert codes == {"FoveateError": 1, "WeightsError": 1, "ConfigError": 2, "DataError": 3, "BudgetError": 4}


def test_the_hook_of_these_tests_sees_a_write(tmp_path):
    assert audited(f"open({str(tmp_path / 'x')!r}, 'w')").returncode == 99
    assert audited("import subprocess; subprocess.run(['true'])").returncode == 99
    assert audited("import socket; socket.socket().connect(('127.0.0.1', 9))").returncode == 99


def test_import_starts_no_process_no_socket_no_write():
    done = audited("import foveate")
    assert (done.returncode, done.stderr) == (0, "")


def test_loading_every_public_name_starts_no_process_no_socket_no_write():
    # torch is loaded before the hook: its own import asks ldconfig for CUDA libraries
    done = audited("import foveate; [getattr(foveate, name) for name in foveate.__all__]", before="import torch")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["fit", "--help"], ["train", "--help"], ["predict", "--help"]]
)
def test_help_starts_no_process_no_socket_no_write(arguments):
    done = audited(f"from foveate.cli import main; sys.exit(main({arguments!r}))")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
