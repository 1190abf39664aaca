"""Everything that can be odd about a data set: its stable code, how bad it is, what it is called, what to do."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Kind(NamedTuple):
    """severity: an error stops training (or the file is left out); a warning spoils results; info is only told."""

    severity: Severity
    title: str
    fix: str


KINDS: dict[str, Kind] = {
    # files that can not be used
    "truncated": Kind(
        "error", "truncated pictures", "copy them again from the source, or leave them out: --bad-files skip"
    ),
    "unreadable": Kind("error", "unreadable pictures", "replace them, or leave them out: --bad-files skip"),
    "format": Kind("error", "not a picture format that is read", "convert to JPEG, PNG or WebP, or move them away"),
    "lfs_pointer": Kind("error", "git LFS pointers, not the pictures themselves", "fetch them: git lfs pull"),
    "annex_pointer": Kind("error", "git-annex pointers, not the pictures themselves", "fetch them: git annex get ."),
    "empty": Kind("error", "empty files", "copy them again from the source, or delete them"),
    "too_large": Kind("error", "pictures over the size limit", "scale them down; no network sees that many pixels"),
    "missing": Kind("error", "rows without a file", "correct the path, or delete the row"),
    "no_access": Kind("error", "folders that can not be read", "change their permissions"),
    # structure
    "twin_names": Kind(
        "error", "class names that look the same", "rename one: they differ only in how Unicode is composed"
    ),
    "unknown_class": Kind(
        "error", "classes that train lacks", "rename the folder as in train, or add pictures to train"
    ),
    "few_classes": Kind("error", "fewer than two classes", "put pictures into at least two class folders"),
    "case_names": Kind("warning", "class names that differ in case only", "join them if they are one class"),
    "like_names": Kind(
        "warning", "class names that differ in hyphens, blanks or underscores only", "join them if they are one class"
    ),
    "missing_class": Kind(
        "warning", "classes without pictures in val or test", "add pictures, or the accuracy says nothing of them"
    ),
    "one_image": Kind("warning", "classes with one picture in train", "add pictures or remove the class"),
    "empty_class": Kind("warning", "empty class folders", "fill or delete them; they are no class"),
    "nested": Kind(
        "warning", "class folders whose pictures lie one level deeper", "give the folder that holds the classes"
    ),
    "unlabelled": Kind(
        "warning", "pictures without labels, left out", "sort them into class folders, or label them by foveate predict"
    ),
    "imbalance": Kind(
        "warning", "classes of very different size", "judge by the accuracy of each class, not by the mean alone"
    ),
    # the same picture twice
    "leak": Kind("warning", "the same picture in two splits", "remove it from train, or the accuracy is too high"),
    "group_leak": Kind(
        "warning", "the same group in two splits", "split again by group: foveate data split --group-by"
    ),
    "two_labels": Kind("warning", "the same picture under two labels", "decide which label is right"),
    "exact_duplicate": Kind("warning", "files with the same bytes", "keep one of each"),
    "near_duplicate": Kind("warning", "the same picture re-encoded, resized or mirrored", "keep one of each"),
    # links and special files
    "loop": Kind("warning", "link loops", "delete the link"),
    "outside": Kind(
        "error",
        "links to places outside the folder, not followed",
        "take them with --follow-links, or copy the files in",
    ),
    "text_link": Kind(
        "error",
        "links to folders that were saved as text",
        "restore them (git config core.symlinks true, then git checkout .) or copy the files in",
    ),
    "broken_link": Kind("error", "links that lead nowhere", "fetch what they lead to, or delete them"),
    "special": Kind("warning", "special files (FIFO, socket, device), never opened", "move them away"),
    "same_file": Kind("info", "further links to a file, counted once", "nothing to do"),
    # what is read, with a note
    "wrong_extension": Kind("warning", "names that say another format", "rename them; they are read by content"),
    "animated": Kind("warning", "animated pictures: the first frame is used", "choose a frame"),
    "tiny": Kind("warning", "tiny pictures", "check that they are no thumbnails or placeholders"),
    "flat": Kind("warning", "pictures of one colour", "check that they are no placeholders"),
    "not_upright": Kind("info", "pictures that are turned upright (EXIF)", "nothing to do"),
    "bad_exif": Kind("info", "damaged EXIF, ignored", "nothing to do"),
    "16bit": Kind("info", "16-bit pictures, scaled to 8 bits", "nothing to do"),
    "cmyk": Kind("info", "CMYK pictures, converted to RGB", "nothing to do"),
    "alpha": Kind("info", "pictures with transparency, laid over the background", "nothing to do"),
    "palette": Kind("info", "palette pictures, converted to RGB", "nothing to do"),
    "joined_labels": Kind("info", "labels that differ in blanks or Unicode form only, joined", "nothing to do"),
    "stray": Kind("info", "files and folders outside the classes, ignored", "move pictures into a class folder"),
    "no_picture": Kind("info", "files that are no pictures, ignored", "nothing to do"),
    "hidden": Kind("info", "hidden and system files, ignored", "nothing to do"),
}
