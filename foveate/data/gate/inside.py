"""The pictures below a folder without labels, found as training finds them."""

from collections import Counter

from foveate.data.gate.screen import claims, header_fault
from foveate.data.gate.walk import outside_line, picture_name, pictures_below
from foveate.data.read.formats import shown
from foveate.errors import DataError


def inside(folder: str, follow_links: bool = False, told: Counter[str] | None = None) -> list[str]:
    """The pictures below a folder, found as training finds them: by name, or by content where the name says nothing.

    Links to pictures that are not there are among them, so that they are told. DataError where there are none, and for
    links that lead outside. told: counts what is left out, by kind.
    """
    listing = pictures_below(folder, follow_links)
    if outside := [notice.path for notice in listing.notices if notice.kind == "outside"]:
        raise DataError(outside_line(folder, outside))
    found = [path for path, _ in listing.missing]
    left_out = Counter(notice.kind for notice in listing.notices)
    for item in listing.items:
        fault = None if picture_name(item.path) else header_fault(item.path)
        if fault is None or claims(listing, item.path, fault):
            found.append(item.path)
        else:
            left_out["no_picture"] += 1
    if not found:
        raise DataError(f"{shown(folder)}: no pictures in this folder; expected files such as .jpg or .png")
    if told is not None:
        told.update(left_out)
    return sorted(found)
