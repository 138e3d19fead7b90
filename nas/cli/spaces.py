"""The verbs that say what there is: check, settings, spaces, tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Json, SpaceName, TrustCode, app
from nas.terminal import live, show_survey, told, write


@app.command(
    epilog="Examples:\n\nnas check mobile --input 3x32x32\n\n"
    "nas check einspace --network ./mine.grammar"
)
def check(
    space: SpaceName,
    input: Annotated[str, typer.Option(help="The input's shape without the batch.")] = "3x32x32",
    samples: Annotated[int, typer.Option(help="Random derivations to draw.")] = 200,
    show_few: Annotated[int, typer.Option("--show", help="Derivations to print.")] = 3,
    as_json: Json = False,
    network: Annotated[
        Path | None, typer.Option(help="A network written in operators: print its derivation.")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Read a space: how many architectures, their FLOPs, params and depth, and a few of them."""
    import json

    from nas.events import Progress
    from nas.survey import read, survey

    if network:
        with told():
            facts = read(space, input, network, trust_code=trust_code)
        write(
            json.dumps(facts, indent=2)
            if as_json
            else "{derivation}\n  = {network}\n{params:,} params, {flops:,} FLOPs".format(**facts)
        )
        return
    with told(), live() as shown:
        facts = survey(
            space,
            input,
            samples=samples,
            show=show_few,
            trust_code=trust_code,
            listener=lambda done, total: shown(Progress("drawing derivations", done, total)),
        )
        if as_json:
            write(json.dumps(facts, indent=2))
            return
        show_survey(facts)


@app.command(epilog="Example: nas settings | less")
def settings() -> None:
    """Print every setting of a search, its default and what it is, as Markdown."""
    from nas.search.settings_page import page

    write(page())


@app.command()
def spaces() -> None:
    """List the shipped search spaces."""
    from nas.grammar import shipped_spaces

    for name, path in shipped_spaces().items():
        head = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        write(f"{name:<16}{head.removeprefix(name + ': ')}")


@app.command()
def tasks() -> None:
    """List the shipped tasks."""
    from nas.task import shipped_tasks
    from nas.task.definition import Definition

    with told():
        for name, path in shipped_tasks().items():
            task = Definition.read(path)
            shape = "x".join(map(str, task.input or ()))
            classes = f"{len(task.classes)} classes" if task.classes else "classes at hand"
            write(f"{name:<18}{shape:<10}{classes}, {task.metric}: {task.title}")


@app.command(
    epilog="Examples:\n\nnas data\n\nnas data --clear 3f9a\n\nnas data --clear all\n\n"
    "NAS_CACHE names another folder for them."
)
def data(
    clear: Annotated[
        str, typer.Option(help="Remove the store of a key, or of its beginning; or all.")
    ] = "",
) -> None:
    """List what is kept of decoded data sets, or remove it: it is made anew when needed."""
    from datetime import datetime

    from nas.task import store

    with told():
        cached = store.cache_folder()
        gone = bool(clear)
        listed = store.clear("" if clear == "all" else clear) if clear else store.stores()
        for entry in listed:
            used = datetime.fromtimestamp(entry.used).isoformat(" ", "minutes")
            what = "removed" if gone else f"used {used}"
            write(f"{entry.key[:12]}  {entry.size_mb:10,.1f} MB  {what}  {entry.source}")
        total = sum(entry.size_mb for entry in listed)
        write(f"{len(listed)} stores, {total:,.1f} MB{' removed' if gone else ''}, in {cached}")
