"""The verbs that say what there is: check, settings, spaces, tasks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Json, SpaceName, Tasks, TrustCode, app
from nas.terminal import live, show, show_survey, told, write


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


@app.command(
    epilog="Examples:\n\nnas learn runs/ --space mobile > mobile-learned.grammar\n\n"
    "nas check ./mobile-learned.grammar --input 1x8x8"
)
def learn(
    runs: Annotated[list[Path], typer.Argument(help="Earlier runs, or folders of them.")],
    space: Annotated[str, typer.Option(help="Whose runs: a shipped space, or ./my.grammar.")],
    trust_code: TrustCode = False,
) -> None:
    """Write a space whose options are as probable as the best of earlier runs chose them."""
    from nas.search.lessons import learned_grammar
    from nas.terminal import err

    with told():
        text, notes = learned_grammar(runs, space, trust_code=trust_code)
        for note in notes:
            err.print(note, markup=False, soft_wrap=True)
        write(text)


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
    epilog="Examples:\n\nnas probe mobile --task mine=./photos --out probe\n\n"
    "There, on the device, with onnxruntime alone:  python probe/time_models.py --name pi4\n\n"
    "nas search mobile --task mine=./photos --profile probe/pi4.json --max latency_ms@pi4=20"
)
def probe(
    space: SpaceName,
    task: Tasks,
    out: Annotated[Path, typer.Option(help="A new folder, for the device.")],
    networks: Annotated[int, typer.Option(help="Networks to be timed there.")] = 60,
    seed: int = 0,
    trust_code: TrustCode = False,
) -> None:
    """Write networks of a space to be timed on another device, for its profile."""
    from nas.events import Progress
    from nas.grammar import Grammar
    from nas.probe import probe as write_probe
    from nas.task import load_tasks

    with told(), live() as shown:
        grammar = Grammar.load(space, trust_code=trust_code)
        tasks = load_tasks(task or (), trust_code=trust_code)
        write_probe(
            grammar,
            tasks,
            out,
            networks=networks,
            seed=seed,
            listener=lambda done, total: shown(Progress("writing networks", done, total)),
        )
    write(f"wrote {out}: on the device, python {out}/time_models.py --name NAME")


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


@app.command(
    epilog="Examples:\n\n"
    "nas space mymodel.py:build --input 3x224x224 --weights my.pt --out my.grammar --trust-code\n\n"
    "nas space mymodel.py:build --input 3x64x64 --out my.grammar --widths layer3=.5,1 "
    "--pin layer1 --trust-code\n\n"
    "nas search --config my.toml --task mine=./photos   (from the weights, gently)"
)
def space(
    function: Annotated[
        str, typer.Argument(help="What gives the module: ./file.py:name, package.module:name.")
    ],
    input: Annotated[str, typer.Option(help="The shape of a sample, as 3x224x224.")],
    out: Annotated[Path, typer.Option(help="A new file, as my.grammar.")],
    weights: Annotated[Path | None, typer.Option(help="A state dict: .pt or .safetensors.")] = None,
    widths: Annotated[
        list[str] | None,
        typer.Option(help="Shares of widths: .25,.5,1 of all, layer3=.5,1 of a part (repeatable)."),
    ] = None,
    depth: Annotated[str, typer.Option(help="last: blocks may be left out; none.")] = "last",
    kernels: Annotated[bool, typer.Option(help="Depthwise kernels may be smaller.")] = False,
    pin: Annotated[
        list[str] | None, typer.Option(help="A part whose widths stay (repeatable).")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Write a search space around a network of your own, and a bank with its weights."""
    from nas.around import module_of, shares_of, space_of
    from nas.op import Shape

    with told():
        module = module_of(function, weights, trust_code=trust_code)
        given = {"widths": shares_of(widths)} if widths else {}
        own = space_of(
            module,
            Shape.read(input).dims,
            name=out.stem,
            depth=depth,
            kernels=kernels,
            pin=pin or (),
            **given,
        )
        rows, facts = own.report(), own.facts()
        files = own.save(out)
        show(rows, ["modules", "width", "may be", "because"], "Widths")
        write(
            "{architectures:,} networks of {least_flops:,} to {flops:,} FLOPs; the largest, of "
            "{params:,} parameters, is the module to {difference:.0e}".format(**facts)
        )
    write(f"wrote {', '.join(map(str, files))}")
    trust = " --trust-code" if own.parts else ""
    config = shlex.quote(str(files[2]))
    write(f"next: nas search --config {config} --task mine=./photos --out runs/mine{trust}")
