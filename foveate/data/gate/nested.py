"""Classes that lie deeper than they were looked for: what the walk has found below the class folders speaks for it."""

import os
from collections import Counter
from collections.abc import Iterator

from foveate.data.gate.names import container, counted_parts, fold, masks, renderings, split_name
from foveate.data.gate.walk import Notice, Walk, picture_name, some
from foveate.data.read.formats import shown
from foveate.errors import DataError

CHAIN = 8  # wrapping folders that are gone through
_MARKS_TEXT = (
    ".git .hg .svn setup.py setup.cfg pyproject.toml requirements.txt environment.yml package.json"
    " cargo.toml cmakelists.txt makefile dockerfile go.mod pom.xml tox.ini manage.py .gitignore .github"
    " .gitattributes"
)
_MARKS = frozenset(_MARKS_TEXT.split())
_OF_CODE_TEXT = (
    "src doc docs documentation scripts tests notebook notebooks example examples assets static templates"
    " node_modules venv env figures screenshots"
)
_OF_CODE = frozenset(_OF_CODE_TEXT.split())
_CODE = (".py", ".ipynb", ".js", ".ts", ".cpp", ".java", ".go", ".rs", ".m", ".r")


def deepest(walk: Walk, folder: str) -> str:
    """The folder behind a chain of folders that hold one folder each and no picture."""
    for _ in range(CHAIN):
        inner = walk.subfolders(folder, told=False)
        if len(inner) != 1:
            break
        if any(kind == "file" and picture_name(name) for name, _, kind in walk.entries(folder, told=False)):
            break
        if not walk.subfolders(inner[0][1], told=False):
            break
        folder = inner[0][1]
    return folder


def ask_about_classes(walk: Walk, split: str, places: dict[str, str], where: str) -> None:
    """DataError with a question where the class folders of a split are none. places: class -> folder."""
    held = {name: walk.depths[split, name] for name in places if (split, name) in walk.depths}
    deep = {name: subs for name, subs in held.items() if not subs.get("") and len(subs) > 1}
    one_deep = {name: subs for name, subs in held.items() if not subs.get("")}
    _ask_about_splits_inside(where, places, one_deep)
    if len(held) == 1 and one_deep:
        name, subs = next(iter(one_deep.items()))
        place = deepest(walk, places[name])
        inner = [sub for sub, _ in walk.subfolders(place, told=False)]
        if len(inner) > 1:
            raise DataError(
                f'{where}: one class with pictures, "{shown(name)}", and they lie in {len(inner):,} folders inside'
                f" ({some(inner)}); did you mean {shown(place)}?"
            )
    if split:
        return
    for name, subs in one_deep.items():  # data/raw/{ant,bee}: what lies behind a chain
        if name not in deep and len(subs) == 1:
            behind = walk.subfolders(deepest(walk, places[name]), told=False)
            deep |= {name: {sub: 1 for sub, _ in behind}} if len(behind) > 1 else {}
    _ask_about_copies(where, places, held)
    _ask_about_repository(walk, where, places, held, deep)
    for name, subs in deep.items():
        if container(name):
            raise DataError(
                f"{where}: {shown(name)}/ is no class, its pictures lie in {len(subs):,} folders ({some(list(subs))});"
                f" did you mean {shown(deepest(walk, places[name]))}?"
            )
    _ask_about_versions(where, places, held, deep)


def _ask_about_versions(
    where: str, places: dict[str, str], held: dict[str, dict[str, int]], deep: dict[str, dict[str, int]]
) -> None:
    """DataError for parts and versions of one data set, and for pictures beside their masks."""
    how = "; put them into one, or list the pictures in a CSV path,label,split"
    if len(held) < 2:
        return
    names = some(list(held))
    if any(map(masks, held)) and all(masks(name) or container(name) for name in held):
        raise DataError(
            f"{where}: {names} hold pictures and what was drawn on them, no classes; expected CLASS/picture"
        )
    common = set.intersection(*(set(subs) for subs in deep.values())) - {""} if len(deep) == len(held) else set()
    if counted_parts(held) or (common and all(map(fold, held))):
        raise DataError(f"{where}: {names} are parts of a data set, not classes{how}")
    if len(common) > 1 and renderings(held):
        raise DataError(
            f"{where}: {names} are versions of one data set, not classes: each holds {some(sorted(common))};"
            f" did you mean {shown(places[min(held, key=len)])}?"
        )


def note_depth(walk: Walk, split: str, places: dict[str, str]) -> Iterator[Notice]:
    """A notice where the pictures of classes lie one level deeper, in folders of several names."""
    held = {name: walk.depths[split, name] for name in places if (split, name) in walk.depths}
    deep = {name: [s for s in subs if s] for name, subs in held.items() if len([s for s in subs if s]) > 1}
    if not deep or 2 * len(deep) < len(held) or (split in ("val", "test")):
        return
    counted = Counter(sub for subs in deep.values() for sub in subs)
    inside = [f"{name}/{sub}" for name, subs in deep.items() for sub in sorted(subs)]
    alike = len(deep) > 1 and all(n == len(deep) for n in counted.values())
    names = "the same names in each" if alike else f"{len(counted):,} different names"
    first = next(iter(deep))
    meant = places[first] if len(deep) == 1 else os.path.dirname(places[first])
    what = "are these the classes" if alike or len(deep) > 1 else f"did you mean {shown(meant)}"
    yield Notice(
        "nested",
        meant,
        f"the pictures of {some(list(deep))} lie one level deeper, in {len(inside):,} folders of {names}"
        f" ({some(inside, 4)}); {what}?",
    )


def _ask_about_splits_inside(where: str, places: dict[str, str], deep: dict[str, dict[str, int]]) -> None:
    """DataError where train and test lie inside the class folders, or inside one folder beside others."""
    split: dict[str, set[str]] = {}
    for name, subs in deep.items():
        kinds = {said.split for sub in subs if (said := split_name(sub)) is not None and not said.rest}
        if "train" in kinds and len(kinds) > 1:
            split[name] = kinds
    if not split:
        return
    name = next(iter(split))
    inner = " and ".join(sorted(shown(sub) for sub in deep[name] if split_name(sub)))
    if len(split) == 1:
        raise DataError(f"{where}: {shown(name)}/ is no class, it holds {inner}; did you mean {shown(places[name])}?")
    raise DataError(
        f"{where}: {some(list(split))} hold {inner} each: splits inside of classes; expected train/CLASS/picture, or"
        " list them in a CSV path,label,split"
    )


def _ask_about_copies(where: str, places: dict[str, str], held: dict[str, dict[str, int]]) -> None:
    """DataError for a folder that holds folders called as those beside it: the whole data set once more."""
    for name, subs in held.items():
        again = [sub for sub in subs if sub and sub in held and sub != name]
        if len(again) > 1:
            raise DataError(
                f"{where}: {shown(name)}/ is no class, it holds {some(sorted(again))} as the folders beside it are"
                f" called; did you mean {shown(places[name])}? Else move it away"
            )


def _ask_about_repository(
    walk: Walk, where: str, places: dict[str, str], held: dict[str, dict[str, int]], deep: dict[str, dict[str, int]]
) -> None:
    """DataError for the root of a repository of code whose folders are no classes."""
    try:
        names = os.listdir(walk.root)
    except OSError:
        return
    lower = {name.lower() for name in names}
    marks = lower & _MARKS or {name for name in lower if name.endswith(_CODE)}
    of_code = [name for name in places if name.lower() in _OF_CODE]
    if not marks and not (of_code and any(name.startswith("readme") for name in lower)):
        return
    likely = [name for name in deep if name not in of_code]
    wrong = [name for name in held if name in of_code]
    if not wrong and not (len(likely) == 1 and len(held) > 1):
        return
    told = ", ".join(sorted(map(shown, of_code))[:2] or sorted(map(shown, marks))[:2])
    if likely:
        meant = deepest(walk, places[max(likely, key=lambda name: (container(name), len(deep[name])))])
        raise DataError(
            f"{where}: the root of a repository ({told}), not of class folders; did you mean {shown(meant)}?"
        )
    raise DataError(
        f"{where}: the root of a repository ({told}), where {some(wrong)} is no class; did you mean a folder inside?"
        " Move the class folders into one, or list the pictures in a CSV path,label"
    )
