"""foveate data check | split | review | diff | drift: look at the pictures before you train on them."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import drift, review
from foveate.cli.options.data import FollowLinks
from foveate.cli.options.declare import Command, command_of, option
from foveate.cli.options.output import Output, print_json
from foveate.cli.options.run import Bad, BadFiles, Seed
from foveate.report.units import duration

app = typer.Typer(help="Check and review a data set, write a split list, compare two lists.", no_args_is_help=True)

Place = Annotated[
    str,
    typer.Argument(metavar="DIR", help="Folder of class folders (or train/ val/ test/), or a CSV.", show_default=False),
]
Share = typer.Option(min=0.0, max=0.9, help="Share of the pictures; 0 for none.")


@app.command("check", cls=Command, epilog="Example: foveate data check photos --strict")
@command_of
def check_command(
    data: Place,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 for warnings (leaks, duplicates) too.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Print every name, not the first 20 of each kind.")] = False,
    out: Annotated[Path | None, option("--out", help="Write the whole report here: .json, .csv, else text.")] = None,
    clean: Annotated[
        Path | None,
        typer.Option("--clean", help="Write a CSV of the pictures that are left without bad and double ones."),
    ] = None,
    follow_links: FollowLinks = False,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Pictures decoded at a time.")] = 2,
    output: Output,
) -> None:
    """Read every picture once and tell what is wrong: damaged files, duplicates, leaks between splits, odd classes.

    A picture has one label; where yours have several (wet and dark), train one model a label.
    """
    from foveate.data.gate.check import check
    from foveate.data.gate.report import as_csv, as_data, as_json_text, as_text
    from foveate.data.read.formats import shown
    from foveate.data.split import write_clean_csv
    from foveate.files import write_text

    _check_csv("--clean", clean)
    report = check(data, threads=threads, follow_links=follow_links, progress=_Progress())
    if out is not None:
        kinds = {".json": lambda found: as_json_text(found, strict), ".csv": as_csv}
        write_text(out, kinds[out.suffix.lower()](report) if out.suffix.lower() in kinds else as_text(report, None))
    if output.as_json:
        print_json(as_data(report, strict))
    else:
        print(as_text(report, None if every else 20), end="")
    if clean is not None:
        dropped = write_clean_csv(report, clean)
        kept = len(report.items) - dropped
        print(f"{shown(clean)}: {kept:,} pictures left, {dropped:,} double ones dropped", file=sys.stderr)
    if not report.good(strict):
        raise typer.Exit(code=3)


@app.command("split", cls=Command, epilog="Example: foveate data split photos --val 0.2 --test 0.1 --out photos.csv")
@command_of
def split_command(
    data: Place,
    *,
    out: Annotated[Path, typer.Option("--out", help="The CSV to write; it opens as DATA.", show_default=False)],
    val: Annotated[float, Share] = 0.1,
    test: Annotated[float, Share] = 0.1,
    seed: Seed = 0,
    group_by: Annotated[
        str | None, option("--group-by", metavar="REGEX", help="What it finds in a name stays in one split.")
    ] = None,
    bad_files: Bad = BadFiles.stop,
    follow_links: FollowLinks = False,
    output: Output,
) -> None:
    """Write a split list path,label,split: stratified, seeded, groups and equal files kept together. Moves no file."""
    from foveate.data.index import open_data
    from foveate.data.read.formats import shown
    from foveate.data.split import write_split_csv

    _check_csv("--out", out)
    dataset = open_data(
        data,
        seed=seed,
        val=val,
        test=test,
        bad_files=bad_files.value,
        group_by=group_by,
        follow_links=follow_links,
    )
    write_split_csv(dataset, out)
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    if output.as_json:
        told = {"splits": sizes, "classes": len(dataset.classes), "notes": list(dataset.notes)}
        print_json({"out": shown(out), **told, "left_out": len(dataset.left_out), "fingerprint": dataset.fingerprint})
        return
    print(dataset.sentence())
    print(f"{shown(out)}: {', '.join(f'{name} {n:,}' for name, n in sizes.items())}")
    for note in dataset.notes:
        print(f"  {note}")


app.command("review", cls=Command, epilog="Example: foveate data review photos --out review")(review.review_command)
app.command("drift", cls=Command, epilog=drift.EXAMPLE)(drift.command)
app.command("diff", cls=Command, epilog="Example: foveate data diff photos photos.csv")(review.diff_command)


def _check_csv(option: str, path: Path | None) -> None:
    """Said before the work, not after it."""
    from foveate.errors import ConfigError

    if path is not None and path.suffix.lower() != ".csv":
        raise ConfigError(f"{option} {path}: expected a name that ends with .csv")


class _Progress:
    """Lines on stderr: every second on a terminal, every 30 s elsewhere; nothing for what is done in a moment."""

    def __init__(self) -> None:
        self.pause_s = 1.0 if sys.stderr.isatty() else 30.0
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done and now - self.last >= self.pause_s:
            self.last = now
            left_s = (now - self.start) * (total - done) / done
            print(f"checked {done:,} of {total:,} files, {duration(left_s)} left", file=sys.stderr, flush=True)
