"""The command `nas`. Thin: each verb imports what it needs when it runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import nas
from nas.cli import find, look, results, spaces
from nas.cli.options import app
from nas.terminal import write

__all__ = ["app", "find", "look", "main", "results", "spaces"]


def main() -> None:
    """The entry point of the command.

    OpenMP's threads wait without spinning unless the user says otherwise: on a machine that does
    other things too, spinning makes small networks several times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _version(wanted: bool) -> None:
    if wanted:
        write(f"nas {nas.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass
