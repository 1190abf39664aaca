"""Every name that a call string, a recipe or a space can have, with its options: none comes, goes or changes unseen.

After a wanted change write tests/facts/names.txt anew and read the difference: python tests/test_names.py
Models stand in tests/facts/FAMILY.json instead, options of commands in options.txt.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from foveate.compress.criteria import CRITERIA
from foveate.layers import ACTS, ATTNS, CONVS, NORMS
from foveate.recipes import RECIPES
from foveate.search import SAMPLERS, SPACES
from foveate.workflows.compress.methods import METHODS

FACTS = Path(__file__).parent / "facts" / "names.txt"
# word -> table, and how many arguments the caller gives before the options
TABLES: dict[str, tuple[Mapping[str, object], int]] = {
    "norm": (NORMS, 1),
    "act": (ACTS, 1),
    "attn": (ATTNS, 2),
    "conv": (CONVS, 7),
    "criterion": (CRITERIA, 0),
    "method": (METHODS, 0),
    "recipe": (RECIPES, 0),
    "sampler": (SAMPLERS, 2),
    "space": (SPACES, 0),
}


def options(maker: Callable[..., object], given: int) -> Iterator[str]:
    """Options with their defaults. What a maker passes on unseen (of samplers, spaces, methods) is not known here."""
    for parameter in list(inspect.signature(maker).parameters.values())[given:]:
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield f"{parameter.name}={parameter.default!r}"


def text() -> str:
    """A line for each entry of each table, in its order."""
    lines = ""
    for word, (table, given) in TABLES.items():
        for name, entry in table.items():
            found = ", ".join(options(entry, given)) if callable(entry) else ""
            lines += f"{word} {name}({found})\n" if found else f"{word} {name}\n"
    return lines


def test_no_name_and_no_option_comes_goes_or_changes_unseen():
    assert text() == FACTS.read_text("utf-8"), __doc__


if __name__ == "__main__":
    FACTS.write_text(text(), "utf-8")
