"""foveate serve: models behind an address, with a page for people and JSON for programs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.options.declare import command_of, option
from foveate.cli.options.output import Output, Quiet
from foveate.errors import printable

EXAMPLE = "Example: foveate serve runs/photos-1/best --port 8000"


@command_of
def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Run folders, model folders, or exported .onnx files.", show_default=False
        ),
    ],
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None,
        option("--token", metavar="TOKEN", help="Who asks must know it; auto makes one; else $FOVEATE_TOKEN."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Anybody who reaches the address may ask.")] = False,
    queue: Annotated[int, typer.Option("--queue", min=1, max=100_000, help="Pictures that may wait.")] = 128,
    decoders: Annotated[int, typer.Option("--decoders", min=1, max=64, help="Processes that decode.")] = 2,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Of a run of the model.")] = 1,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, max=1024, help="Size of a request, in megabytes.")] = 32,
    log_predictions: Annotated[
        Path | None, option("--log-predictions", metavar="DIR", help="Keep what was asked, for data drift.")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Keep small copies of the pictures, too.")] = False,
    quiet: Quiet = False,
    output: Output,
) -> None:
    """Answer pictures over HTTP, and show a page to drop them on.

    The first line of stdout is the address. POST /predict takes files or one raw picture.
    """
    from foveate.errors import ConfigError
    from foveate.serve.settings import AUTO, Settings, checked, token_of

    if thumbnails and log_predictions is None:
        raise ConfigError("--thumbnails: they are kept with --log-predictions DIR")

    settings = checked(
        Settings(
            host=host,
            port=port,
            token=token_of(token),
            open=open_,
            queue=queue,
            decoders=decoders,
            threads=threads,
            max_body=max_mb * 2**20,
            max_held=max(8 * max_mb, 256) * 2**20,
        )
    )

    def announce(url: str) -> None:
        fragment = f"#token={settings.token}" if settings.token else ""
        if output.as_json:
            made = {"token": settings.token} if token == AUTO else {}
            print(json.dumps({"url": url, **made}))  # one line: who starts a server reads that and no more
        else:
            print(printable(url))
            if not quiet:
                print(f"page: {url}/{fragment}\nstop: Ctrl-C", file=sys.stderr)
        sys.stdout.flush()

    from foveate.serve.serving import serve

    serve(models, settings, announce=announce, quiet=quiet, log=log_predictions, thumbnails=thumbnails)
