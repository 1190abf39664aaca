"""What a search found, for people: table.md, search.png, winner.txt, winner.png, report.html and results.json."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate.config import parse_json
from foveate.files import write_bytes, write_json, write_text
from foveate.report.page import render
from foveate.report.plots import data_uri
from foveate.report.units import count, duration, milliseconds, percent, share, size
from foveate.search.space import Space
from foveate.search.study import Found
from foveate.workflows.search.design import Search, preprocess_of
from foveate.workflows.search.diagram import Part, diagram, parts, text
from foveate.zoo.family import Config

TOP = 10  # rows of the table
SHUFFLES = 200  # random orders of the same trials, for the curve to be compared with


def row_of(space: Space, one: Found) -> dict[str, Any]:
    """A trial as a row: its net, scores and costs; what was not measured is None."""
    keys = ("val_accuracy", "latency_ms", "latency_p10_ms", "latency_p90_ms", "size_bytes", "macs", "params", "fits")
    row: dict[str, Any] = {"trial": one.number, "net": space.text(one.net)}
    row |= {key: one.facts.get(key) for key in (*keys, "seconds", "cut_off", "error", "score_name")}
    return row | {"score": None if one.values is None else one.facts.get("score", one.values[0])}


def is_valued(one: Found) -> bool:
    """Whether a net was evaluated, and not only found to be over the budget."""
    return one.values is not None and ("val_accuracy" in one.facts or "score" in one.facts)


def value_of(one: Found) -> float:
    """What a net was found to be worth: validation accuracy in percent, or the score that the search went by."""
    facts = one.facts
    return float(facts["score"]) if "score" in facts else 100 * float(facts["val_accuracy"])


def value_number(one: Found) -> str:
    """The same as a number of a table."""
    return percent(one.facts["val_accuracy"]) if "score" not in one.facts else f"{value_of(one):.4g}"


def value_text(one: Found) -> str:
    """The same in words: "val 61.2 %", "zen 143.2"."""
    name = one.facts.get("score_name")
    return f"val {value_number(one)} %" if name is None else f"{name} {value_number(one)}"


def rows_of(design: Search, space: Space, done: Sequence[Found], best: Found) -> list[dict[str, Any]]:
    """The trials as candidates of a run's report: those that were evaluated, by their score. Where that
    is no accuracy it stands in the name, and the accuracy is None.
    """
    rows = []
    for one in sorted(filter(is_valued, done), key=_score):
        row = row_of(space, one)
        if row["latency_ms"] is not None:
            keys = (
                "latency_ms",
                "latency_p10_ms",
                "latency_p90_ms",
                "size_bytes",
                "macs",
                "params",
                "val_accuracy",
                "fits",
            )
            name = f"trial {one.number}" if "val_accuracy" in one.facts else f"trial {one.number}, {value_text(one)}"
            size = space.decode(one.net).get("resolution", design.preprocess.resolution)
            about = {"model": name, "resolution": size, "weights": None}
            rows.append({**about, **{key: row[key] for key in keys}, "chosen": one is best})
    return rows


def _score(one: Found) -> float:
    return -(one.values or (0.0,))[0]


def write_search_report(
    folder: Path,
    design: Search,
    space: Space,
    done: Sequence[Found],
    best: Found | None = None,
    config: Config | None = None,
    zoo: Sequence[Mapping[str, Any]] = (),
    said: Sequence[str] = (),
) -> None:
    """All files. best, config: the net that is trained in full, once that is settled; zoo, said: see baselines.py."""
    rows = [row_of(space, one) for one in done]
    result: dict[str, Any] = {"space": design.space, "sampler": design.sampler, "trials": rows}
    lines = [*table(design, space, done), *said]
    write_text(folder / "table.md", "\n".join(lines) + "\n")
    curve = picture(design, done) if any(row["score"] is not None for row in rows) else b""
    if curve:
        write_bytes(folder / "search.png", curve)
    if best is not None and config is not None:
        result |= {"winner": space.text(best.net), "choices": space.decode(best.net)}
        result["zoo"] = list(zoo)
        found = parts(config, preprocess_of(design, config).resolution)
        drawn = diagram(found)
        write_text(folder / "winner.txt", winner_text(space, best, found))
        write_bytes(folder / "winner.png", drawn)
        write_text(folder / "report.html", search_page(design, space, done, best, zoo, lines, found, curve, drawn))
    write_json(folder / "results.json", result)


def search_page(
    design: Search,
    space: Space,
    done: Sequence[Found],
    best: Found,
    zoo: Sequence[Mapping[str, Any]],
    lines: Sequence[str],
    found: list[Part],
    curve: bytes,
    drawn: bytes,
) -> str:
    """report.html."""
    good = sorted(filter(is_valued, done), key=_score)[:TOP]
    rows = [
        {**row_of(space, one), "name": f"trial {one.number}", "value": value_number(one), "chosen": one is best}
        for one in good
    ]
    values = ["\u2013" if row["val_accuracy"] is None else percent(row["val_accuracy"]) for row in zoo]
    rivals = [{**row, "name": row["model"], "value": value} for row, value in zip(zoo, values, strict=True)]
    view = {
        "title": design.name,
        "headline": f"The best of {len(done)} nets of {space.name}: {value_text(best)}",
        "about": lines[0],
        "said": [line for line in lines[1:] if line and not line.startswith("|")],
        "valued": best.facts.get("score_name", "val %"),
        "rows": [*rows, *rivals],
        "parts": found,
        "choices": space.decode(best.net),
        "curve": data_uri(curve, "png"),
        "diagram": data_uri(drawn, "png"),
    }
    return render("search.html.j2", view)


HEADLINE = "<!-- tested -->"


def tested_line(summary: Mapping[str, Any]) -> str:
    """What the winner, trained in full, reaches: the model that lies in best/."""
    accuracy = share(summary["test_accuracy"], summary["test_interval"], summary["test_n"])
    return f"The winner, trained in full: {summary.get('test_split', 'test')} {accuracy}."


def tell_test(folder: Path, summary: Mapping[str, Any], front: Sequence[Mapping[str, Any]] = ()) -> None:
    """Put the accuracy of what is in best/, and the front, into results.json, table.md and the head of report.html."""
    told = tested_line(summary)
    path = folder / "results.json"
    result = parse_json(path.read_bytes(), str(path))
    keys = ("test_accuracy", "test_interval", "test_n", "test_split", "run")
    write_json(path, {**result, "best": {key: summary[key] for key in keys if key in summary}, "front": list(front)})
    text = (folder / "table.md").read_text("utf-8")
    if told not in text:
        write_text(folder / "table.md", "\n".join([f"{text}{told}", *front_lines(front)]) + "\n")
    page = (folder / "report.html").read_text("utf-8") if (folder / "report.html").exists() else ""
    if HEADLINE in page:
        write_text(folder / "report.html", page.replace(HEADLINE, f"<p>{told}</p>{front_html(front)}", 1))


def front_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models of the front, the cheapest first; nothing where the winner is alone."""
    if len(rows) < 2:
        return []
    cells = [(Path(row["path"]).name + (" (beaten)" if row["beaten"] else ""), *front_cells(row)) for row in rows]
    return ["", "| front | test | latency | size |", "|---|---|---|---|", *(f"| {' | '.join(c)} |" for c in cells)]


def front_cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Accuracy, latency and size of a model of the front, as people say them."""
    accuracy = share(row["accuracy"], row["interval"], row["n"])
    return accuracy, milliseconds(row["latency_ms"]), size(row["size_bytes"])


def front_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same for the page: numbers of ours, nothing to escape."""
    cells = ((Path(row["path"]).name, " (beaten)" if row["beaten"] else "", front_cells(row)) for row in rows)
    return "".join(f"<p>front/{name}{b}: {' · '.join(c)}</p>" for name, b, c in cells) if len(rows) > 1 else ""


def table(design: Search, space: Space, done: Sequence[Found]) -> list[str]:
    """The best nets within the budget, the most accurate first, and what the search cost."""
    good = sorted(filter(is_valued, done), key=_score)
    named = next((str(f.facts["score_name"]) for f in good if "score_name" in f.facts), None)
    out = [
        f"{design.name} · {space!r} · {design.sampler} · reward {design.reward} · by {named or 'short trainings'}",
        "",
    ]
    out += [f"| trial | {named or 'val %'} | latency | MACs | params | fits |", "|---|---|---|---|---|---|"]
    for one in good[:TOP]:
        row = row_of(space, one)
        latency = "" if row["latency_ms"] is None else milliseconds(row["latency_ms"])
        cells = (value_number(one), latency, count(row["macs"]), count(row["params"]))
        out.append(f"| {row['trial']} | {' | '.join(cells)} | {'yes' if row['fits'] else 'no'} |")
    failed, seconds = sum(f.values is None for f in done), sum(float(f.facts.get("seconds", 0.0)) for f in done)
    over = sum(f.values is not None and not f.facts.get("fits", True) for f in done)
    cut = sum("cut_off" in f.facts for f in done)
    out += [
        "",
        f"{len(done)} nets in {duration(seconds)}: {over} over the budget, {cut} cut off early, {failed} failed.",
    ]
    if named is None:
        short = f"{design.proxy.epochs} epochs of at most {design.pictures:,} pictures, seed {design.seed}"
        return [*out, f"Short trainings: {short}."]
    return [*out, f"Valued by {design.evaluate}, seed {design.seed}; only the front was trained.", *beside(good)]


def beside(good: Sequence[Found]) -> list[str]:
    """How much of a score is the size of the net: its rank correlation with the counts, over the nets of the table."""
    if len(good) < 3:
        return []
    scores = np.array([value_of(one) for one in good])
    macs, params = (
        rank_correlation(scores, np.array([float(one.facts[key]) for one in good])) for key in ("macs", "params")
    )
    return [f"Spearman of this score with multiply-adds {macs:+.2f}, with parameters {params:+.2f} ({len(good)} nets)."]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties by their mean rank; 0 where one side is constant. a, b: (n,)."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def winner_text(space: Space, best: Found, found: list[Part]) -> str:
    """Every choice of the winner, a line each; then its blocks."""
    values: Mapping[str, Any] = space.decode(best.net)
    wide = max(len(name) for name in values)
    choices = (f"{name:<{wide}}  {value}" for name, value in values.items())
    return "\n".join([*choices, "", *text(found)]) + "\n"


def picture(design: Search, done: Sequence[Found]) -> bytes:
    """Two panels: the best score so far, with the same trials in random order beside it; accuracy against cost."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    # a net over a strict budget has a score below all accuracies that says how far over; it would flatten the curve
    over = np.array(
        [design.reward == "strict" and f.values is not None and not f.facts.get("fits", True) for f in done]
    )
    scores = np.array([f.values[0] if f.values is not None else -math.inf for f in done])
    scores = np.where(over, -math.inf, scores)
    steps = np.arange(1, len(scores) + 1)
    rng = np.random.default_rng(0)
    orders = np.stack([np.maximum.accumulate(rng.permutation(scores)) for _ in range(SHUFFLES)])
    seen = np.isfinite(scores)
    scale = 100 if design.evaluate == "train" else 1
    left.plot(steps[seen], scale * scores[seen], ".", color="0.5", label="trial")
    left.step(
        steps,
        scale * np.where(np.isfinite(c := np.maximum.accumulate(scores)), c, np.nan),
        where="post",
        label="best so far",
    )
    middle = np.median(orders, 0)
    left.plot(
        steps, scale * np.where(np.isfinite(middle), middle, np.nan), "--", label="the same trials in random order"
    )
    left.plot(steps[over], np.zeros(over.sum()), "|", color="C3", transform=left.get_xaxis_transform(), label="over")
    left.set(xlabel="nets", ylabel="score, %" if scale > 1 else f"value by {design.evaluate}")
    left.legend(fontsize=8)
    key, label, unit = (
        ("latency_ms", "latency, ms", 1.0) if design.needs_latency else ("macs", "multiply-adds, M", 1e-6)
    )
    valued = [f for f in done if is_valued(f) and f.facts.get(key) is not None]
    for fits, colour in ((True, "C0"), (False, "C3")):
        some = [f for f in valued if bool(f.facts.get("fits")) is fits]
        x, y = [unit * f.facts[key] for f in some], [value_of(f) for f in some]
        right.plot(x, y, "o", color=colour, markersize=4, label="within the budget" if fits else "over the budget")
    if design.needs_latency and design.budget.max_latency_ms:
        right.axvline(design.budget.max_latency_ms, linestyle="--", color="0.5")
    name = next((f.facts["score_name"] for f in valued if "score_name" in f.facts), None)
    right.set(xlabel=label, ylabel=name or "validation accuracy after the short training, %")
    right.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()


def line_of(design: Search, space: Space, one: Found, number: int) -> str:
    """One trial for people: "trial 12  (9 of 50)  val 61.2 %  0.84 ms  12.3 M MACs  ...": its number as in the database
    and in all tables, which count from 0 and repeats, too; and how many different nets there are with it.
    """
    if one.values is None:
        return f"trial {one.number}  ({number})  failed: {one.facts.get('error', '')}"
    row = row_of(space, one)
    parts = [value_text(one) if is_valued(one) else "over the budget"]
    parts += [f"{row['latency_ms']:.2f} ms"] if row.get("latency_ms") else []
    parts += [
        f"{row['macs'] / 1e6:.1f} M MACs",
        f"cut off after {one.facts['cut_off']}" if "cut_off" in one.facts else "",
    ]
    place = f"  ({number} of {design.trials})" if design.trials else f"  ({number})"
    return f"trial {one.number}{place}  " + "  ".join(p for p in parts if p)
