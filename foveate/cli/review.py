"""foveate data review | diff: suspect labels, near duplicates and outliers; what changed between two lists."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foveate.cli.options.data import Data, FollowLinks, model_folder
from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.cli.options.run import Seed

SHOWN = 10  # rows of each kind on the terminal
CHANGES = ("added", "removed", "relabelled", "renamed", "changed", "moved_split")
Revision = Annotated[
    str, typer.Argument(metavar="A", help="Folder, CSV, built-in name or run folder.", show_default=False)
]
Other = Annotated[str, typer.Argument(metavar="B", help="The same, later.", show_default=False)]


@command_of
def review_command(
    data: Data,
    *,
    model: Annotated[
        str | None, option("--model", metavar="MODEL", help="Judge by the features of this model's network.")
    ] = None,
    unlabelled: Annotated[
        str | None, option("--unlabelled", metavar="DIR", help="Pictures of which the best to label next are named.")
    ] = None,
    out: Annotated[str | None, option("--out", metavar="DIR", help="A new folder for the page and the tables.")] = None,
    runs: Annotated[str, typer.Option("--runs", metavar="DIR", help="Folder that holds the runs.")] = "runs",
    clean: Annotated[
        Path | None, option("--clean", metavar="FILE", help="Write a CSV without copies; with --apply, as decided.")
    ] = None,
    apply: Annotated[
        Path | None, option("--apply", metavar="FILE", help="A decisions.csv; nothing is judged again.")
    ] = None,
    seed: Seed = 0,
    follow_links: FollowLinks = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then show pages where labels are decided by keys, in a browser.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of --serve; 0: any that is free.")] = 8000,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Rank suspect labels; find near duplicates, leaks, outliers, and what to label next.

    Writes a folder with review.html and tables. Drops nothing by itself and never touches a picture.
    """
    from foveate.cli import show
    from foveate.errors import ConfigError

    for name, path in (("--clean", clean),):
        if path is not None and path.suffix.lower() != ".csv":
            raise ConfigError(f"{name} {path}: expected a name that ends with .csv")
    if data == "digits" and (clean or apply or serve):
        raise ConfigError('"digits" is built in and has no files: no list of them can be written')
    if apply is not None:
        found = _applied(data, apply, clean, out, follow_links)
        output.answer(found, lambda: [f"{found['list']}: {found['pictures']:,} pictures; {_counted(found['done'])}"])
        return
    folder = None if model is None else model_folder(model)
    if serve and clean is not None:
        raise ConfigError("--serve and --clean: decide on the pages, then --apply the decisions with --clean")
    if serve:
        serve_pages(data, model, unlabelled, out, runs, seed, follow_links, port, quiet, output)
        return
    from foveate.workflows.review.run import review

    with show.progress(quiet) as listener:
        found = review(
            data,
            model=folder,
            unlabelled=unlabelled,
            out=out,
            runs=runs,
            seed=seed,
            follow_links=follow_links,
            listener=listener,
        )
    if clean is not None:
        from foveate.workflows.review.lists import without_copies, write_list
        from foveate.workflows.review.look import hold

        items, gone = without_copies(hold(data, follow_links), found["near_duplicates"])
        write_list(items, clean)
        found = {**found, "list": str(clean), "dropped": gone}
    output.answer(found, lambda: review_lines(found))


def serve_pages(
    data: str,
    model: str | None,
    unlabelled: str | None,
    out: str | None,
    runs: str,
    seed: int,
    follow_links: bool,
    port: int,
    quiet: bool,
    output: Output,
) -> None:
    """The pages of a review: of the folder --out where one is there, else of a new one, made by a child process.

    A child, for judging needs torch, and the process that listens has none.
    """
    import json
    import subprocess
    import sys

    from foveate.serve.relabel import serve_review
    from foveate.serve.settings import Settings, checked, token_of
    from foveate.workflows.review.serving import training_commands, work_of

    if out is None or not (Path(out) / "review.json").is_file():
        words = [sys.executable, "-m", "foveate", "data", "review", data, "--seed", str(seed), "--runs", runs, "--json"]
        for name, value in (("--model", model), ("--unlabelled", unlabelled), ("--out", out)):
            words += [] if value is None else [name, value]
        words += ["--follow-links"] if follow_links else []
        done = subprocess.run([*words, *(["--quiet"] if quiet else [])], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise typer.Exit(done.returncode)
        out = str(json.loads(done.stdout)["folder"])
    commands = training_commands(data, Path(out), runs, model)
    work = work_of(data, out, follow_links=follow_links, commands=commands)
    settings = checked(Settings(port=port, token=token_of(None)))

    def announce(url: str) -> None:
        if output.as_json:
            print(json.dumps({"url": url, "folder": out}))
        else:
            print(url)
            if not quiet:
                fragment = f"#token={settings.token}" if settings.token else ""
                print(f"page: {url}/{fragment}\ndecisions: {work.decisions}\nstop: Ctrl-C", file=sys.stderr)
        sys.stdout.flush()

    serve_review(work, settings, announce=announce)


def _applied(data: str, apply: Path, clean: Path | None, out: str | None, follow_links: bool) -> dict[str, Any]:
    """The list that the decisions make."""
    from foveate.errors import ConfigError
    from foveate.workflows.review import lists
    from foveate.workflows.review.look import hold

    if clean is None and out is None:
        raise ConfigError("--apply writes a new list: name it with --clean FILE.csv")
    file = clean or Path(str(out)) / "list.csv"
    decisions = lists.read_decisions(apply)
    items, done = lists.apply(hold(data, follow_links), decisions)
    file.parent.mkdir(parents=True, exist_ok=True)
    lists.write_list(items, file)
    return {"list": str(file), "pictures": len(items), "done": done}


def _counted(done: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {text}" for n, text in zip(done.values(), ("kept", "relabelled", "dropped"), strict=True))


def review_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The first of each kind, and where the rest is."""
    wrong, twins, odd = found["suspects"], found["near_duplicates"], found["outliers"]
    classes = len(found["classes"])
    yield f"{found['data']}: {found['pictures']:,} pictures in {classes:,} classes, by {found['features']}"
    yield f"suspect labels    {len(wrong):,}" + (f", about {found['likely_wrong']:,} likely wrong" if wrong else "")
    yield from (f"  {row['score']:.2f}  {row['label']} -> {row['suggested']}?  {row['path']}" for row in wrong[:SHOWN])
    yield f"near duplicates   {len(twins):,}" + (f", {len(found['leaks']):,} in two splits" if found["leaks"] else "")
    yield from (f"  {row['similarity']:.2f}  {'  =  '.join(row['paths'][:4])}" for row in twins[:SHOWN])
    yield f"outliers          {len(odd):,}"
    yield from (f"  {row['kind']:<8}  {row['path']}" for row in odd[:SHOWN])
    if found["overlaps"]:
        first = [f"{' and '.join(o['classes'])} ({o['pictures']:,})" for o in found["overlaps"][:3]]
        yield f"overlapping       {', '.join(first)}"
    yield f"to label next     {len(found['next_to_label']):,} pictures, in next_to_label.csv"
    yield from (f"note: {line}" for line in found["can_not_say"])
    if "list" in found:
        yield f"list              {found['list']}, without {len(found['dropped']):,} copies"
    yield f"page              {found['folder']}/review.html (decide there, then --apply decisions.csv --clean new.csv)"


@command_of
def diff_command(
    a: Revision,
    b: Other,
    *,
    follow_links: FollowLinks = False,
    every: Annotated[bool, typer.Option("--all", help="Print every name, not the first 10 of each kind.")] = False,
    output: Output,
) -> None:
    """Tell what changed between two lists of pictures: added, removed, relabelled, renamed, moved between splits."""
    from foveate.workflows.review.diff import diff

    found = diff(a, b, follow_links)
    for side in ("a", "b"):
        if note := found[side].get("note"):
            from foveate.cli.options.output import warn

            warn(note)
    output.answer(found, lambda: diff_lines(found, None if every else SHOWN))


def diff_lines(found: Mapping[str, Any], first: int | None) -> Iterator[str]:
    """Both lists with their fingerprints, then the changes."""
    for side in ("a", "b"):
        about = found[side]
        mark = about["fingerprint"][:12] or "none (training would refuse it)"
        yield f"{side.upper()}  {about['source']}: {about['pictures']:,} pictures, fingerprint {mark}"
    if not any(found[kind] for kind in CHANGES):
        yield f"the same {found['unchanged']:,} pictures"
        return
    for kind in CHANGES:
        rows = found[kind]
        if not rows:
            continue
        yield f"{kind.replace('_', ' between ') + ('s' if kind == 'moved_split' else '')}  {len(rows):,}"
        yield from (f"  {_change(row)}" for row in rows[:first])
        if first is not None and len(rows) > first:
            yield f"  ... and {len(rows) - first:,} more; --all prints them"
    yield f"unchanged  {found['unchanged']:,}"


def _change(row: Mapping[str, Any]) -> str:
    """A row of any kind: "a/1.jpg -> b/1.jpg: a -> b"."""
    text = f"{row['from']} -> {row['path']}" if "from" in row else str(row["path"])
    return f"{text}: {row['was'] or 'no split'} -> {row['to'] or 'no split'}" if "was" in row else text
