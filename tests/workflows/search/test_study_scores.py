"""foveate search --study: which cheap score ranks the nets of a space, and which says nothing."""

import json

import pytest
from small_space import write_space

import foveate as fv
from foveate.data.index import open_data
from foveate.workflows.search.fitting_space import default_space, has_own_recipes, unsuited
from foveate.workflows.search.proxies import extrapolated, lines, told
from foveate.workflows.search.run import resume_search, search


def row(alone, **scores):
    seconds = dict.fromkeys(scores, 0.1) | {"steps: 1 epochs": 2.0}
    return {"alone": alone, "alone_s": 9.0, "scores": scores, "seconds": seconds}


def test_the_cheapest_score_that_ranks_is_taken_and_those_that_say_nothing_stand_in_no_order():
    rows = [
        row(i / 30, **{"steps: 1 epochs": i, "naswot": i + (i % 2) * 1.5, "zen": (11 * i) % 19 % 10, "curve": i})
        for i in range(20)
    ]
    found = told(None, rows, 1000)
    assert [f["score"] for f in found["ranks"]][-1] == "naswot" and found["ranks"][0]["tau"] == 1
    assert found["chosen"] == "naswot"  # the curve is as cheap, but no search takes it
    assert [f["score"] for f in found["says_nothing"]] == ["zen"]
    text = "\n".join(lines({**found, "space": "s"}))
    assert "| zen |" not in text and "rank nothing here (in no order): zen" in text
    assert "search with --evaluate naswot" in text


def test_where_no_score_ranks_it_is_said():
    rows = [row(i / 30, zen=(11 * i) % 19 % 10) for i in range(20)]
    found = told(None, rows, 1000)
    assert found["chosen"] is None and "No score reaches" in "\n".join(lines({**found, "space": "s"}))


def test_a_curve_is_told_to_its_end():
    curve = [1 - 0.5 * 0.8**i for i in range(20)]  # an error that falls by the same ratio every epoch
    assert extrapolated(curve[:9]) == pytest.approx(1.0, abs=1e-9)
    assert extrapolated([0.5, 0.4, 0.3]) == 0.3 and extrapolated([0.1, 0.2, 0.4]) == 0.4


@pytest.mark.slow
def test_a_study_of_digits_goes_on_where_it_was_stopped(tmp_path):
    space = write_space(tmp_path)
    options = {"epochs": 1, "pictures": 256, "threads": 1, "study": 8, "runs": tmp_path / "runs"}
    run = search("digits", space, **options)
    names = {f["score"] for f in (*run.summary["ranks"], *run.summary["says_nothing"])}
    assert names >= {"steps: 1 epochs", "pictures: 64", "naswot", "macs"} and run.summary["nets"] == 8
    kept = json.loads((run.folder / "proxies.json").read_text())
    (run.folder / "proxies.json").write_text(json.dumps({**kept, "rows": kept["rows"][:6]}))
    again = resume_search(run.folder, space=space)
    assert [r["alone"] for r in json.loads((run.folder / "proxies.json").read_text())["rows"]] == [
        r["alone"] for r in kept["rows"]
    ]
    assert again.summary["nets"] == 8


def test_the_space_that_suits_the_pictures():
    digits = open_data("digits")
    assert default_space(digits) == "thumbnail" and not has_own_recipes("thumbnail", digits)  # grey
    assert "--space thumbnail suits them" in (unsuited("mnasnet", digits) or "")
    assert unsuited("thumbnail", digits) is None and unsuited("my_space.py", digits) is None


def test_a_study_of_more_nets_than_a_space_has_is_refused(tmp_path):
    with pytest.raises(fv.ConfigError, match=r"--study 40: \d+ different nets of tiny were found; take fewer"):
        search("digits", write_space(tmp_path), study=40, epochs=1, pictures=256, threads=1, runs=tmp_path)
