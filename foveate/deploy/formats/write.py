"""Writing an exported form: a file, files beside each other, or a folder."""

from pathlib import Path

from foveate.deploy.formats.form import Files, Form
from foveate.deploy.targets import write
from foveate.errors import ConfigError
from foveate.files import write_folder


def write_form(form: Form, files: Files, out: Path) -> list[Path]:
    """Write durably and return the paths, the one to open last.

    out: of a file, which gets the form's ending; of a folder its name, or a file whose name the folder takes. A folder
    that holds other things than such an export is left alone: ConfigError.
    """
    if not form.folder:
        return write(files, out.with_suffix(form.suffix))
    place = out.with_suffix(form.suffix) if out.suffix == ".onnx" else out
    tops = {name.split("/")[0] for name in files}
    if place.exists() and (not place.is_dir() or {p.name for p in place.iterdir()} - tops):
        raise ConfigError(f"{place}: holds other files, which would be lost; --out names another folder")
    write_folder(place, files)
    return [*(place / name for name in files), place]
