"""Every sampler on tables of trained nets: figures into a JSON-lines file, Markdown on stdout, a picture.

    python scripts/benchmarks/search_tables.py [--macro nas-bench-macro_cifar10.json] [--nb201 nasbench201.csv]
        [--seeds 20] [--samplers NAME ...] [--fronts] [--into FILE.jsonl] [--plot FILE.png]

One net is chosen by the observed column and the reported column of it is shown: mean, standard deviation over seeds.
NAS-Bench-Macro: one of the three training runs is observed (drawn per seed), the mean of the three is reported.
NAS-Bench-201: validation accuracy after 12 epochs is observed, test accuracy (200 epochs for CIFAR-10) is reported.
"vs tpe": difference of the means to TPE at the same budget, and in standard errors of the difference, seeds taken as
independent. --fronts: shares of the exact hypervolume of accuracy and multiply-adds at 100, 200, 500 nets.

--into: what a sampler reached is appended as soon as it is known, and not measured again where the file has it, so that
the comparison can be stopped and split over calls. Without a table, what the file holds is shown.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from foveate.config import from_dict, to_dict
from foveate.search import SAMPLERS, SINGLE, SPACES
from foveate.search.compare import Line, compare, compare_fronts, markdown
from foveate.search.tables import read_table

COLUMNS = {  # space -> (observe, report) pairs, the column of the baseline, the two objectives
    "nasbench_macro": ([("test_acc", "mean_acc")], "flops", ("mean_acc", "flops")),
    "nasbench201": (
        [("c10_val_12ep", "c10_test_200ep_alt"), ("c100_val_12ep", "c100_test_12ep")],
        "macs_c10",
        ("c10_test_200ep_alt", "macs_c10"),
    ),
}
Found = dict[str, list[Line]]  # title -> what was reached


def beside(found: Sequence[Line], other: str = "tpe") -> str:
    """Per sampler and budget: mean - mean of the other, and that / standard error of the difference."""
    base = {line.budget: line for line in found if line.sampler == other}
    if not base:
        return ""
    out = [f"| vs {other} | {' | '.join(map(str, base))} |", f"|---|{'---|' * len(base)}"]
    for name in dict.fromkeys(line.sampler for line in found if line.sampler != other):
        cells = []
        for line in (line for line in found if line.sampler == name and line.budget in base):
            error = (line.error**2 + base[line.budget].error ** 2) ** 0.5
            gap = line.mean - base[line.budget].mean
            cells.append(f"{gap:+.3f} ({gap / error:+.1f} se)" if error else f"{gap:+.3f}")
        out.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(out)


def measure(name: str, path: str, samplers: Sequence[str], seeds: int, fronts: bool, found: Found) -> Iterator[str]:
    """Adds to found what is missing; yields the title whenever a sampler is done."""
    space = SPACES[name]()
    table = read_table(path, space)
    pairs, baseline, objectives = COLUMNS[name]
    if fronts:
        title = f"{table.name}: share of the hypervolume of {', '.join(objectives)} ({seeds} seeds)"
        for sampler in samplers:
            if sampler.partition("(")[0] not in SINGLE and not known(found, title, sampler):
                start = time.process_time()
                found.setdefault(title, []).extend(compare_fronts(table, space, [sampler], objectives, seeds=seeds))
                yield f"{title}: {sampler}, {(time.process_time() - start) / seeds:.1f} CPU-seconds a search"
        return
    for observe, report in pairs:
        title = f"{table.name}: {observe} observed, {report} reported ({seeds} seeds)"
        for sampler in [*samplers, f"by {baseline}"]:
            if not known(found, title, sampler):
                start = time.process_time()
                names, column = ([], baseline) if sampler.startswith("by ") else ([sampler], None)
                lines = compare(table, space, names, observe, report, seeds=seeds, ordered_by=column)
                found.setdefault(title, []).extend(lines)
                yield f"{title}: {sampler}, {(time.process_time() - start) / seeds:.1f} CPU-seconds a search"


def known(found: Found, title: str, sampler: str) -> bool:
    """Whether the sampler has been measured under this title."""
    return any(line.sampler == sampler for line in found.get(title, ()))


def read(path: Path) -> Found:
    """What the file holds; nothing where there is none."""
    found: Found = {}
    for text in path.read_text("utf-8").splitlines() if path.is_file() else ():
        row = json.loads(text)
        found.setdefault(row.pop("title"), []).append(from_dict(Line, row))
    return found


def draw(found: Found, path: str) -> None:
    """One panel a title: means over budgets, with bars of one standard error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.6), squeeze=False)
    colours = {name: f"C{i}" for i, name in enumerate(SAMPLERS)}
    for axis, (title, lines) in zip(axes[0], found.items(), strict=True):
        for name in dict.fromkeys(line.sampler for line in lines):
            own = sorted((line for line in lines if line.sampler == name), key=lambda line: line.budget)
            axis.errorbar(
                [line.budget for line in own],
                [line.mean for line in own],
                [line.error for line in own],
                label="by multiply-adds" if name.startswith("by ") else name,
                color=colours.get(name, "gray"),
                linestyle="--" if name.startswith("by ") else "-",
                linewidth=2.2 if name == "predictor" else 1.1,
                capsize=2,
            )
        where, _, what = title.partition(": ")
        axis.set_title(f"{where.partition('.')[0]}\n{what.rpartition(' (')[0]}", fontsize=7)
        budgets = sorted({line.budget for line in lines})
        axis.set_xscale("log")
        axis.set_xticks(budgets, [str(b) for b in budgets])
        axis.minorticks_off()
        axis.set_xlabel("nets evaluated", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_ylim(bottom=min(line.mean for line in lines if line.budget > budgets[0]) - 0.001)
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--macro", help="nas-bench-macro_cifar10.json")
    parser.add_argument("--nb201", help="nasbench201.csv")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--fronts", action="store_true", help="hypervolume shares instead")
    parser.add_argument("--into", type=Path, help="JSON lines: read first, then appended to")
    parser.add_argument("--plot", help="PNG of everything found")
    given = parser.parse_args()
    found = read(given.into) if given.into else {}
    for name, path in (("nasbench_macro", given.macro), ("nasbench201", given.nb201)):
        if path is None:
            continue
        written = sum(map(len, found.values()))
        for message in measure(name, path, given.samplers, given.seeds, given.fronts, found):
            print(message, flush=True)
            title = message[: message.index(" seeds)") + len(" seeds)")]
            new = sum(map(len, found.values())) - written
            written += new
            if given.into:
                with given.into.open("a", encoding="utf-8") as file:
                    file.writelines(
                        json.dumps({"title": title, **to_dict(line)}) + "\n" for line in found[title][-new:]
                    )
    for title, lines in found.items():
        digits = 4 if "hypervolume" in title else 3
        print(f"\n### {title}\n", markdown(lines, digits), beside(lines), sep="\n\n")
    if given.plot and found:
        draw(found, given.plot)


if __name__ == "__main__":
    main()
