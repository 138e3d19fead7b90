"""The command `nas`. Thin: each verb imports what it needs when it runs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

import nas
from nas.terminal import (
    err,
    live,
    out,
    show,
    show_front,
    show_run,
    show_trivial,
    show_trust,
    told,
    write,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Find neural networks that are accurate, small and fast for your own data and device.",
    epilog="First run: [bold]nas search mobile --task digits --out runs/first[/bold]",
)

RunFolder = Annotated[Path, typer.Argument(help="A run's folder, as runs/first.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run Python code that the space or a task names.")
]


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


@app.command(
    epilog="Examples:\n\n"
    "nas search mobile --task digits --out runs/first\n\n"
    "nas search mobile --task scenes-classify --task scenes-segment --out runs/two\n\n"
    "nas search einspace --task digits --config einspace-cpu --out runs/open\n\n"
    "nas search ./my.grammar --task mine=data.npz --max latency_ms=1 --budget 10m --out runs/mine"
)
def search(
    space: Annotated[str, typer.Argument(help="A shipped space, or a file as ./my.grammar.")] = "",
    task: Annotated[
        list[str] | None,
        typer.Option(help="A shipped task, ./my.toml, or name=data.npz, folder, module:function."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder, a new one.")] = None,
    trials: Annotated[int | None, typer.Option(help="Distinct subnets to evaluate. [200]")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the run: 90s, 10m, 2h.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same proposals. [0]")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="tree, evolution, nsga2, tpe or random; "
            "auto is nsga2 in finite spaces, tree in others. [auto]"
        ),
    ] = None,
    objectives: Annotated[
        str | None, typer.Option(help="Columns, as accuracy,flops,latency_ms.")
    ] = None,
    max: Annotated[
        list[str] | None, typer.Option("--max", help="At most, as latency_ms=1 or flops=2M.")
    ] = None,
    min: Annotated[
        list[str] | None, typer.Option("--min", help="At least, as accuracy=0.9.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Axes of your own arrays: nf, nhw, ncl, nlc, nchw, nhwc.")
    ] = None,
    on: Annotated[str | None, typer.Option(help="local, ray, or ray:ADDRESS. [local]")] = None,
    workers: Annotated[int | None, typer.Option(help="Evaluators on Ray; 0 is one a core.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 … [cpu]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of these; or einspace, einspace-cpu.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say memory, cost and ETA.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Search a space for one task or several at once."""
    from nas.search import Settings
    from nas.search import search as run_search
    from nas.search.settings import seconds

    facts: dict[str, Any] = {}
    if config:
        with told():
            facts = Settings.read(config)
    named_out = facts.pop("out", None)
    folder = out or Path(named_out or Path("runs") / (Path(space or "run").stem))
    with told(_carry_on(folder)):
        facts["tasks"] = [_laid_out(t, layout) for t in task or facts.get("tasks", [])]
        limits = [_bound(text, "<=") for text in max or ()]
        limits += [_bound(text, ">=") for text in min or ()]
        named = {
            "space": space or None,
            "trials": trials,
            "seed": seed,
            "sampler": sampler,
            "on": on,
            "workers": workers,
            "device": device,
            "limits": limits or None,
            "objectives": _columns(objectives or "") or None,
            "budget_s": seconds(budget) if budget else None,
        }
        facts |= {key: value for key, value in named.items() if value is not None}
        facts.setdefault("space", "")
        if not facts["space"] or not facts["tasks"]:
            raise ValueError("say a space and a task: nas search mobile --task digits")
        settings = Settings.of(facts, str(config or "settings"))
        if dry_run:
            _dry_run(settings, trust_code)
            return
        with live() as listener:
            run = run_search(**facts, out=folder, listener=listener, trust_code=trust_code)
        show_run(run)


def _carry_on(folder: Path) -> str:
    return f"nas resume {shlex.quote(str(folder))} carries on where it was."


def _bound(text: str, sign: str) -> str:
    """A limit as settings write it."""
    return text if "<" in text or ">" in text else text.replace("=", sign, 1)


def _laid_out(task: str, layout: str | None) -> str:
    """A task with its layout, where it is data of the user's own."""
    own = layout and "=" in task and "?layout=" not in task
    return f"{task}?layout={layout}" if own else task


@app.command(
    epilog="Examples:\n\nnas resume runs/first\n\n"
    "nas resume runs/first --trials 500 --on ray   (more of a run that has ended, on Ray)\n\n"
    "nas resume runs/first --budget 1h             (as many more as fit an hour)"
)
def resume(
    run: RunFolder,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, from now on.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time from now on: 90s, 10m, 2h.")] = None,
    on: Annotated[str, typer.Option(help="local, ray, or ray:ADDRESS.")] = "local",
    workers: Annotated[int, typer.Option(help="Evaluators on Ray; 0 is one a core.")] = 0,
    device: Device = "cpu",
    trust_code: TrustCode = False,
) -> None:
    """Carry an interrupted run on to its end, or a finished one further."""
    from nas.search import resume as run_resume
    from nas.search.settings import seconds

    with told(_carry_on(run)):
        with live() as listener:
            done = run_resume(
                run,
                trials=trials,
                budget_s=seconds(budget) if budget else None,
                on=on,
                workers=workers,
                device=device,
                listener=listener,
                trust_code=trust_code,
            )
        show_run(done)


@app.command(
    epilog="Examples:\n\nnas trust runs/first --standalone 32\n\n"
    "nas trust runs/first --standalone 64 --budget 30m --json > trust.json\n\n"
    "The same command carries on where it was; a larger number extends what is there."
)
def trust(
    run: RunFolder,
    standalone: Annotated[
        int, typer.Option(min=8, help="Random architectures to train from scratch, twice each.")
    ] = 32,
    epochs: Annotated[
        float | None, typer.Option(help="Of training from scratch; by default the run's.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="A search's time, for the verdict; by default the run's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Measure how far a run's evaluators can be trusted, against training from scratch."""
    import json

    from nas.search.choose_evaluator import trust as measure
    from nas.search.settings import seconds

    with told("The same command carries on where it was."):
        with live() as listener:
            facts = measure(
                run,
                standalone=standalone,
                epochs=epochs,
                listener=listener,
                budget_s=seconds(budget) if budget else None,
                trust_code=trust_code,
            )
        if as_json:
            write(json.dumps(facts, indent=1))
        else:
            show_trust(facts)


def _columns(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _dry_run(settings: Any, trust_code: bool) -> None:
    from nas.search.estimate import estimate
    from nas.task import load_tasks

    for task in load_tasks(settings.tasks, trust_code=trust_code):
        err.print(task.describe(), markup=False, soft_wrap=True)
    costs = estimate(settings, trust_code=trust_code)
    show([costs], ["bank_mb", "step_ms", "evaluation_ms", "eta_s"], "What it costs")


@app.command(
    epilog="Examples:\n\nnas front runs/first --where 'latency_ms < 1' --sort accuracy\n\n"
    "nas front runs/first --objectives accuracy,params --csv > front.csv\n\n"
    "nas front net-a net-b net-c     (networks on the test split, once retrained)"
)
def front(
    folders: Annotated[list[Path], typer.Argument(help="A run's folder, or those of networks.")],
    where: Annotated[str, typer.Option(help="As 'latency_ms < 1 and params < 1M'.")] = "",
    sort: Annotated[str, typer.Option(help="A column; best first.")] = "",
    objectives: Annotated[str, typer.Option(help="Other columns, as accuracy,params.")] = "",
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Show the Pareto front of a run, or of networks that were retrained."""
    with told():
        from nas.retrain import front_of

        run, *others = folders
        if others or (run / "architecture.json").exists():
            whole, found = None, front_of(folders, _columns(objectives))
        else:
            whole = nas.load(run, trust_code=trust_code)
            found = whole.front(_columns(objectives))
        if where:
            found = found.where(where)
        if sort:
            found = found.sort(sort)
        if csv:
            write(found.to_csv())
        else:
            show_front(found)
            if whole:
                show_trivial(whole)


@app.command(epilog="Example: nas report runs/first")
def report(run: RunFolder, trust_code: TrustCode = False) -> None:
    """Write one offline HTML page with the interactive front."""
    from nas.report import report as write_report

    with told():
        write(f"wrote {write_report(nas.load(run, trust_code=trust_code))}")


@app.command(epilog="Example: nas extract runs/first --id 6d9e644c --to net")
def extract(
    run: RunFolder,
    id: Annotated[str, typer.Option(help="A trial's id; without it the front's first.")] = "",
    to: Annotated[Path, typer.Option(help="The new folder.")] = Path("net"),
    trust_code: TrustCode = False,
) -> None:
    """Take a network out: model.py, weights.safetensors, architecture.json, recipe.toml."""
    from nas.evaluate import EVALUATORS

    with told():
        chosen = nas.load(run, trust_code=trust_code)
        taken = chosen.save(id or chosen.best(), to)
        write(f"{to}: {taken.plan.params:,} params, {taken.plan.flops:,} FLOPs")
        if not EVALUATORS[chosen.evaluator].keeps:
            write("its weights are fresh: this run trains candidates from scratch and keeps none")
        write(f"next: nas retrain {to} --epochs 20   ·   nas export {to} --onnx")


@app.command(
    epilog="Examples:\n\nnas retrain net --epochs 20\n\n"
    "nas retrain runs/first --id 6d9e644c --id 14ddf09b --on ray"
)
def retrain(
    folder: Annotated[Path, typer.Argument(help="A network's folder, or a run's with --id.")],
    id: Annotated[list[str] | None, typer.Option(help="Trials of the run (repeatable).")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training split.")] = None,
    lr: Annotated[float | None, typer.Option(help="The peak learning rate.")] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch/--from-weights", help="New weights, or the net's own.")
    ] = True,
    on: Annotated[str, typer.Option(help="local, ray, or ray:ADDRESS.")] = "local",
    device: Device = "cpu",
    trust_code: TrustCode = False,
) -> None:
    """Train networks fully; test metrics before and after. Interrupted, it carries on."""
    from nas.retrain import retrain as train_again
    from nas.retrain import retrain_trials

    with told("The same command carries on where it was."):
        with live() as listener:
            if (folder / "run.toml").exists():
                rows = retrain_trials(
                    folder,
                    id or [],
                    on=on,
                    epochs=epochs,
                    lr=lr,
                    device=device,
                    from_scratch=from_scratch,
                    listener=listener,
                    trust_code=trust_code,
                )
            elif id or on != "local":
                raise ValueError(f"{folder} is no run: --id and --on belong to a run's folder")
            else:
                before, after = train_again(
                    folder,
                    epochs=epochs,
                    lr=lr,
                    device=device,
                    from_scratch=from_scratch,
                    listener=listener,
                    trust_code=trust_code,
                )
                rows = [
                    {
                        "network": str(folder),
                        "task": b.task,
                        "metric": b.name,
                        "before": b.value,
                        "after": a.value,
                    }
                    for b, a in zip(before, after, strict=True)
                    if b.task
                ]
        show(rows, ["network", "task", "metric", "before", "after"], "On the test split")


@app.command(epilog="Example: nas export net --onnx")
def export(
    folder: Annotated[Path, typer.Argument(help="A network's folder, as net.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX, checked in onnxruntime.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="torch.export's model.pt2.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Write a network for other runtimes, checked against PyTorch's outputs."""
    with told():
        if not (onnx or torch):
            raise ValueError(f"say what to write: nas export {folder} --onnx")
        from nas.export import to_onnx, to_torch_export

        for wanted, writer in ((onnx, to_onnx), (torch, to_torch_export)):
            if wanted:
                write(f"wrote {writer(folder, trust_code=trust_code)}, outputs equal to PyTorch's")


@app.command(
    epilog="Examples:\n\nnas check mobile --input 3x32x32\n\n"
    "nas check einspace --network ./mine.grammar"
)
def check(
    space: Annotated[str, typer.Argument(help="A shipped space, or a file as ./my.grammar.")],
    input: Annotated[str, typer.Option(help="The input's shape without the batch.")] = "3x32x32",
    samples: Annotated[int, typer.Option(help="Random derivations to draw.")] = 200,
    show_few: Annotated[int, typer.Option("--show", help="Derivations to print.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
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
            found = read(space, input, network, trust_code=trust_code)
        write(
            json.dumps(found, indent=2)
            if as_json
            else "{derivation}\n  = {network}\n{params:,} params, {flops:,} FLOPs".format(**found)
        )
        return
    with told(), live() as shown:
        found = survey(
            space,
            input,
            samples=samples,
            show=show_few,
            trust_code=trust_code,
            listener=lambda done, total: shown(Progress("drawing derivations", done, total)),
        )
        if as_json:
            write(json.dumps(found, indent=2))
            return
        write(f"{space} for an input of {input}: {found['architectures']} architectures")
        show(found["ranges"], ["quantity", "smallest", "median", "largest"])
        write(
            f"of {found['samples']} drawn: {found['invalid']} invalid, {found['trivial']} trivial, "
            f"{found['duplicates']} an architecture met before; "
            f"{found['us_per_node']:.0f} µs of CPU time a node"
        )
        if grown := found.get("growth"):
            mean = f"{grown.get('mean_operators', 0.0):.1f} operators on average"
            write(
                f"it grows by {grown['by_derivation']:.2f} a generation, "
                f"{grown['by_instantiation']:.2f} with copies counted: {grown.get('warning', mean)}"
            )
        if seeds := found.get("seeds"):
            columns = ["seed", "params", "flops", "depth", "refused"]
            show(seeds, [c for c in columns if any(c in one for one in seeds)], "Seeds")
        for line in found["examples"]:
            out.print(f"\n{line}", markup=False, soft_wrap=True)


@app.command(epilog="Example: nas settings | less")
def settings() -> None:
    """Print every setting of a search, its default and what it is, as Markdown."""
    from nas.search.settings import page

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
