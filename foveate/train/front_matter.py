"""The head of a model card: what hubs and their searches read of a README.md, in YAML between two lines of dashes."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

TASK = "image-classification"
LICENSES = (  # those that hubs know by these names; others are written as "other" with their name
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "gpl-3.0",
    "unlicense",
)
PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


def front_matter(name: str, family: str, facts: Mapping[str, Any], metrics: Sequence[Any]) -> list[str]:
    """Lines of YAML: library, task, tags, license and data where they are known, and what was measured (model-index).

    Texts are written as JSON strings, which YAML reads as they are: no name, however odd, adds a key or ends the block.
    metrics: records with name, value, split and data. Rates alone are listed; times and sizes are in the text.
    """
    head: dict[str, Any] = {"library_name": "foveate", "pipeline_tag": TASK, "tags": ["foveate", TASK, family]}
    licence = facts.get("license")
    if isinstance(licence, str) and licence:
        head["license"] = licence.lower() if licence.lower() in LICENSES else "other"
        head |= {"license_name": plain(licence)} if head["license"] == "other" else {}
    data = facts.get("data")
    if isinstance(data, str) and re.fullmatch(rf"{PLAIN}(/{PLAIN})?", data):  # a hub's name, not a path or a sentence
        head["datasets"] = [data]
    rates = [m for m in metrics if not m.name.endswith(("_ms", "_mb", "_mib", "_s"))]
    if rates:
        head["metrics"] = list(dict.fromkeys(plain(m.name) for m in rates))
        head["model-index"] = [{"name": name, "results": [result(m) for m in rates if m.data] or [result(rates[0])]}]
    return ["---", *yaml_lines(head), "---", ""]


def result(metric: Any) -> dict[str, Any]:
    """One entry of a model-index."""
    data = metric.data or "unknown"
    dataset = {"name": data, "type": plain(data)} | ({"split": metric.split} if metric.split else {})
    measured = [{"type": plain(metric.name), "value": metric.value}]
    return {"task": {"type": TASK}, "dataset": dataset, "metrics": measured}


def plain(text: str) -> str:
    """A text as an identifier: letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")[:96] or "unknown"


def yaml_lines(value: Any, depth: int = 0) -> list[str]:
    """Mappings and lists of texts and numbers as YAML in block form."""
    space, lines = "  " * depth, []
    entries = [(f"{k}:", v) for k, v in value.items()] if isinstance(value, Mapping) else [("-", v) for v in value]
    for start, entry in entries:
        if isinstance(entry, Mapping | list):
            inner = yaml_lines(entry, depth + 1)
            if start == "-":  # the first line of an entry stands beside its dash
                lines += [f"{space}- {inner[0].strip()}", *inner[1:]]
            else:
                lines += [f"{space}{start}", *inner]
        else:
            lines.append(f"{space}{start} {scalar(entry)}")
    return lines


def scalar(value: Any) -> str:
    """A number, or a text in double quotes; control characters are spaces, as in the rest of the card."""
    if isinstance(value, str):
        return json.dumps("".join(c if c.isprintable() else " " for c in value).strip()[:200], ensure_ascii=False)
    digits, exponent, power = repr(value).partition("e")  # 1e-07 is a text to YAML, 1.0e-07 a number
    return digits + (".0" if exponent and "." not in digits else "") + exponent + power
