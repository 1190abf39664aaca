"""Data sets of boxes (VOC, YOLO, COCO): a file of boxes for every picture, and no class folders.

Read as class folders they would give one class called JPEGImages, or train and val as classes. A classifier learns from
pictures of one thing each, so the answer is a question, never a guess.
"""

import os

from foveate.data.gate.walk import Walk, picture_name, some
from foveate.data.read.formats import shown
from foveate.errors import DataError

_PICTURES = frozenset(["jpegimages", "images", "image", "imgs", "img", "pictures", "photos"])
_BOXES = frozenset(["annotations", "annotation", "labels", "label", "xml", "xmls", "bbox", "bboxes", "boxes"])
LOOK = 200  # files of boxes that are looked at in a folder
DEPTH = 2  # images/train beside labels/train, and train/images beside train/labels


def refuse_boxes(root: str, top: dict[str, str], walk: Walk) -> None:
    """DataError where the folders of a data set hold boxes: files of boxes named like the pictures beside them."""
    for folder, inner in [(root, top), *((path, dict(walk.subfolders(path, told=False))) for path in top.values())]:
        for boxes, kind in _folders_of_boxes(folder, inner, walk):
            raise DataError(
                f"{shown(root)}: {shown(os.path.relpath(boxes, root))} holds {kind}, so this is a data set of boxes;"
                " foveate sorts whole pictures into classes: cut each box out into a folder CLASS/, or give folders of"
                " pictures, one a class"
            )


def _folders_of_boxes(folder: str, inner: dict[str, str], walk: Walk) -> list[tuple[str, str]]:
    """(folder or file of boxes, what it holds) among the folders directly in one."""
    found = []
    for name, _, kind in walk.entries(folder, told=False):  # Roboflow puts one beside the pictures
        if kind == "file" and name.lower().endswith(".coco.json"):
            found.append((os.path.join(folder, name), "boxes of COCO"))
    pictured = [path for name, path in inner.items() if name.lower() in _PICTURES]
    for name, path in inner.items():
        if name.lower() in _BOXES:
            coco = [n for n, _, kind in walk.entries(path, told=False) if kind == "file" and _coco(n)]
            if coco and len(inner) > 1:
                found.append((path, f"boxes of COCO ({some(coco, 1)})"))
            elif said := _like_pictures(path, pictured, walk, DEPTH):
                found.append((path, said))
    return found


def _coco(name: str) -> bool:
    """Whether a file is named as COCO names its boxes: instances_train2017.json."""
    return name.lower().startswith("instances") and name.lower().endswith(".json")


def _like_pictures(boxes: str, pictured: list[str], walk: Walk, depth: int) -> str:
    """What a folder holds whose files are named like the pictures of another; "" where it is no folder of boxes."""
    files = [name for name, _, kind in walk.entries(boxes, told=False) if kind == "file"]
    for suffix, kind in ((".xml", "boxes of VOC"), (".txt", "boxes of YOLO")):
        stems = [os.path.splitext(name)[0] for name in files if name.lower().endswith(suffix)][:LOOK]
        for place in pictured if stems and not any(map(picture_name, files)) else ():
            beside = {os.path.splitext(n)[0] for n, _, _ in walk.entries(place, told=False) if picture_name(n)}
            if 2 * sum(stem in beside for stem in stems) > len(stems):
                return f"{kind} ({some([stems[0] + suffix], 1)})"
    if depth > 1:
        for name, path in walk.subfolders(boxes, told=False):
            deeper = [os.path.join(place, name) for place in pictured if os.path.isdir(os.path.join(place, name))]
            if said := _like_pictures(path, deeper, walk, depth - 1):
                return said
    return ""
