"""foveate.data.table: tables as people save them, each kind of fault read rightly or told in one line."""

import os

import numpy as np
import pytest
from PIL import Image

from foveate.data.gate.check import check
from foveate.data.index import open_data
from foveate.errors import DataError

ROWS = [("img/ant/0.png", "ant"), ("img/ant/1.png", "ant"), ("img/bee/0.png", "bee"), ("img/bee/1.png", "bee")]
PLAIN = "path,label\n" + "".join(f"{path},{label}\n" for path, label in ROWS)


@pytest.fixture
def place(tmp_path):
    for seed, (path, _) in enumerate(ROWS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / path)
    return tmp_path


def opened(place, text, name="l.csv"):
    (place / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_data(place / name, val=0, test=0)


def labels(data):
    return [data.classes[i] for i in data.splits["train"].labels]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PLAIN + ",\n", id="a blank last row"),
        pytest.param(PLAIN + ",,\n , \n\n", id="more blank rows"),
        pytest.param(PLAIN.replace("img/bee/0", ",\nimg/bee/0"), id="a blank row inside"),
        pytest.param(",\n\n" + PLAIN, id="blank rows above"),
        pytest.param(PLAIN.replace("\n", ",,\n"), id="empty columns behind"),
        pytest.param(PLAIN.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(PLAIN.replace("\n", "\r"), id="CR"),
        pytest.param(PLAIN.replace(",", ";"), id="semicolons"),
        pytest.param(PLAIN.replace(",", "\t"), id="tabs"),
        pytest.param(PLAIN.replace(",", "|"), id="bars"),
        pytest.param("sep=;\n" + PLAIN.replace(",", ";"), id="a line that names the separator"),
        pytest.param(PLAIN.replace(",", " , "), id="blanks around commas"),
        pytest.param(PLAIN.replace(",", ', "').replace("\n", '"\n'), id="quoted behind a blank"),
        pytest.param(PLAIN.replace("path,label", " Path , LABEL "), id="header in capitals and blanks"),
        pytest.param("label,more,path\n" + "".join(f"{b},x,{a}\n" for a, b in ROWS), id="other order"),
        pytest.param(PLAIN.replace("0.png,ant", "0.png,ant "), id="a blank behind some labels"),
        pytest.param(PLAIN.replace("0.png,ant", "0.png,\u00a0ant"), id="a no-break blank"),
        pytest.param(PLAIN.replace("0.png,ant", '0.png,"ant\n"'), id="a quoted newline"),
        pytest.param(PLAIN.replace("img/", "img\\").replace("t/", "t\\").replace("e/", "e\\"), id="Windows separators"),
        pytest.param(PLAIN.replace("img/", ".\\img/"), id="mixed separators"),
        pytest.param(PLAIN.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + PLAIN.replace(",", "\t").encode("utf-16-be"), id="UTF-16, the other order, tabs"),
        pytest.param(PLAIN.encode("utf-32"), id="UTF-32"),
        pytest.param(PLAIN.encode("utf-8-sig"), id="UTF-8 with a mark"),
        pytest.param(PLAIN + "img/ant/0.png,ant\n", id="a row twice"),
    ],
)
def test_a_table_is_read_as_it_is_meant(place, text):
    data = opened(place, text)
    assert data.classes == ("ant", "bee")
    assert labels(data) == ["ant", "ant", "bee", "bee"]
    assert [os.path.relpath(p, place) for p in data.splits["train"].paths] == [path for path, _ in ROWS]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            PLAIN.replace(",ant", ",café").encode("cp1252"),
            r'line 2 and 1 more: the label "caf\\xe9" is not UTF-8; save',
        ),
        (PLAIN.replace(",bee", ",Bär").encode("latin-1"), r'line 4 and 1 more: the label "B\\xe4r" is not UTF-8'),
        (PLAIN.replace("ant/", "å/").encode("cp1252"), r'the path "img/\\xe5/0.png" is not UTF-8'),
        (PLAIN.encode("utf-16-le"), "looks like UTF-16 without its mark"),
        (PLAIN.encode("utf-16")[:-1], "damaged"),
        (PLAIN.replace("bee\n", "b\0e\n"), "line 4: a NUL byte"),
        (
            PLAIN.replace("img/", "C:\\photos\\"),
            "line 2 and 3 more: C:.photos.ant/0.png is a path of a Windows computer",
        ),
        (PLAIN.replace("img/", "\\\\server\\img\\"), "is a path of a Windows computer"),
        (PLAIN.replace("img/", "https://a.example/"), "line 2 and 3 more: https://a.example/ant/0.png is an address"),
        (PLAIN.replace("path", "filename"), 'did you mean "filename"'),
        (PLAIN.replace("label", "Category"), 'did you mean "category"'),
        (PLAIN.replace("path,label", "image_path;target").replace(",", ";"), 'did you mean "image_path"'),
        (PLAIN.replace("path", "pathh"), "did you mean pathh"),
        (PLAIN.partition("\n")[2], "line 1 is a row: img/ant/0.png, ant; put a line path,label above it"),
        (PLAIN.replace(",bee", ","), "line 4 and 1 more: the label is empty"),
        (PLAIN + "img/ant/0.png,bee\nimg/ant/1.png,bee\n", "line 6 and 1 more: img/ant/0.png stands on line 2 too"),
        (PLAIN.replace("bee", "ant"), "one class with pictures.*labels of its rows"),
    ],
)
def test_one_cause_is_told_in_one_line_that_can_be_printed(place, text, said):
    with pytest.raises(DataError, match=said) as error:
        opened(place, text)
    assert "\n" not in str(error.value) and str(error.value).isprintable()
    assert "folder" not in str(error.value) or "table's folder" in str(error.value)


def test_two_hundred_absent_files_are_one_line_with_the_first_three(place):
    rows = "".join(f"photos/{i}.png,{'ab'[i % 2]}\n" for i in range(200))
    with pytest.raises(DataError) as error:
        opened(place, "path,label\n" + rows)
    text = str(error.value)
    assert text.startswith("200 of 200 files can not be used: photos/0.png (missing); photos/1.png (missing); ")
    assert "and 197 more" in text and "class" not in text and "\n" not in text


def test_absent_files_of_a_table_are_not_told_as_empty_class_folders(place):
    (place / "l.csv").write_text(PLAIN.replace("img/ant", "img/gone"))
    assert {finding.kind for finding in check(place / "l.csv").findings} == {"missing", "few_classes"}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("ice cream", "ice  cream", "joined"),
        ("caf\u00e9", "cafe\u0301", "joined"),
        ("tick", "tick\t", "joined"),
        ("Ant", "ant", "differ in case only"),
        ("sea-lion", "sea\u2013lion", "differ in hyphens"),
        ("sea lion", "sea_lion", "differ in hyphens"),
        ("sealion x", "sealion\u200b x", "differ in hyphens"),
    ],
)
def test_labels_that_look_alike_are_joined_or_told(place, one, other, told):
    text = PLAIN.replace("0.png,ant", f'0.png,"{one}"').replace("1.png,ant", f'1.png,"{other}"')
    data = opened(place, text)
    assert any(told in note for note in data.notes), data.notes
    assert len(data.classes) == (2 if told == "joined" else 3)


def test_a_tsv_is_a_table_too(place):
    assert opened(place, PLAIN.replace(",", "\t"), "list.tsv").classes == ("ant", "bee")
