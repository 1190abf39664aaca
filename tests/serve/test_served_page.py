"""The page in a browser: what it shows is what the server says, by mouse and by keys, narrow and wide."""

import json
import os
from pathlib import Path

import pytest
from browser import browser, missing
from serving import picture

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
SHOTS = os.environ.get("FOVEATE_SHOTS")  # a folder: pictures of the pages are left there, to be looked at


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def shoot(page, name):
    for width in (375, 1200):
        for dark in (False, True):
            page.size(width, dark=dark)
            assert page.js("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is wider than {width}"
            if SHOTS:
                page.shoot(Path(SHOTS) / f"{name}-{width}-{'dark' if dark else 'light'}.png")
    page.size(1200)


def test_dropped_files_of_odd_kinds_are_labelled_as_the_server_labels_them(page, server, tmp_path):
    files = {
        "a.png": picture((200, 20, 20), (300, 200)),
        "b.dat": picture((20, 190, 20), (90, 120), "WEBP"),
        "<b>c</b>.gif": picture((20, 20, 180), (64, 64), "GIF"),
        "broken.jpg": picture((9, 9, 9), (99, 99), "JPEG")[:300],
        "strange.png": picture((250, 30, 30), (80, 80)),
    }
    paths = []
    for i, (name, data) in enumerate(files.items()):
        place = tmp_path / str(i) / name.replace("/", "\u2215")
        place.parent.mkdir()
        place.write_bytes(data)
        paths.append(place)
    page.size(1200)
    page.open(server.url)
    page.until("document.title.startsWith('colours')")
    page.drop(paths)
    page.until("!document.getElementById('say').textContent && document.querySelectorAll('#rows tr').length === 5")
    cells = page.js("[...document.querySelectorAll('#rows tr')].map(r => [...r.cells].map(c => c.innerText.trim()))")
    told = server.predict(*((p.name, p.read_bytes()) for p in paths))
    for cell, row in zip(cells, told, strict=True):
        assert cell[0] == row["name"]
        assert cell[1] == (
            row["error"]["message"] if "error" in row else "none of these" if row["unknown"] else row["label"]
        )
        assert "error" in row or cell[2] == f"{100 * row['probability']:.1f} %"
    assert [row.get("label") for row in told] == ["red", "green", "blue", None, "red"] and told[4]["unknown"]
    page.click("#rows tr:nth-child(1)")
    assert page.js("document.getElementById('label').textContent") == "red"
    assert page.js("[...document.querySelectorAll('.bar span:first-child')].map(e => e.textContent)")[0] == "red"
    page.click("#heat")
    page.until("!document.getElementById('map').hidden")
    shoot(page, "page")
    page.key("ArrowDown")
    assert page.js("document.getElementById('label').textContent") == "green"
    for _ in range(3):
        page.key("ArrowDown")
    assert page.js("document.getElementById('label').textContent") == "none of these"
    assert "nearest class is red" in page.js("document.getElementById('note').textContent")
    assert page.told == [], "the page breaks its own security policy, or fails"


def test_the_camera_and_the_csv(page, server):
    page.open(server.url)
    page.until("document.title.startsWith('colours')")
    page.click("#camera")
    page.until("document.getElementById('video').videoWidth > 0")
    page.click("#shoot")
    page.until("document.querySelectorAll('.bar').length > 0")
    page.click("#off")
    assert page.js("document.getElementById('live').hidden && !document.getElementById('video').srcObject.active")
    page.js(
        "window.saved = '';"
        "URL.createObjectURL = (blob) => { blob.text().then(t => window.saved = t); return 'blob:x'; };"
        "HTMLAnchorElement.prototype.click = () => 0"
    )
    page.js("document.getElementById('csv').click()")
    lines = page.until("window.saved").splitlines()
    assert lines[0] == "name,label,probability,unknown,set,error" and lines[1].startswith("camera-")


def test_a_token_comes_behind_the_hash_and_leaves_the_address(page, server, tmp_path):
    from serving import colour_model, served

    colour_model(tmp_path / "m.onnx")
    token = "a-token-of-the-tests-0123456789"
    with served(tmp_path, tmp_path / "m.onnx", "--port", "0", env={"FOVEATE_TOKEN": token}) as guarded:
        page.open(guarded.url)
        page.until("!document.getElementById('ask').hidden")
        page.js(f"document.getElementById('token').value = {json.dumps(token)}")
        page.click("#ask button")
        page.until("document.title.startsWith('m ')")
        page.js("sessionStorage.clear()")
        page.open(f"{guarded.url}?again#token={token}")
        page.until("document.title.startsWith('m ')")
        assert page.js("location.hash") == "" and token not in guarded.log.read_text()
