"""The verbs that say how runs stand and what they offer: status, list, compare, front,
report, steer."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nas
from nas.cli.options import (
    Json,
    Most,
    Prefer,
    Profiles,
    RunFolder,
    TrustCode,
    app,
    bound,
    columns,
    preferences,
)
from nas.terminal import (
    err,
    out,
    show,
    show_answer,
    show_front,
    show_fronts,
    show_trivial,
    told,
    write,
)

if TYPE_CHECKING:
    from nas.report.standing import Standing

EVERY_S = 2.0  # between two looks of --watch


@app.command(epilog="Examples:\n\nnas status runs/first\n\nnas status runs/first --watch")
def status(
    run: RunFolder,
    watch: Annotated[bool, typer.Option("--watch", help="Look again until it ends.")] = False,
    as_json: Json = False,
) -> None:
    """Say how far a run is, from another shell too: phase, ETA, best, failures, workers."""
    import json
    import time

    from nas.report.standing import standing

    with told():
        now = standing(run)
        if as_json:
            write(json.dumps({**asdict(now), "folder": str(run)}, indent=1))
            return
        if not watch:
            out.print(_lines(now), markup=False, soft_wrap=True)
            return
        from rich.live import Live

        with Live(console=out, auto_refresh=False) as screen:
            while True:
                screen.update(_lines(now), refresh=True)
                if not now.running:
                    return
                time.sleep(EVERY_S)
                now = standing(run)


@app.command(
    epilog="Examples:\n\nnas steer runs/steered --prefer scenes-segment=0.7,scenes-classify=0.3\n\n"
    "nas steer runs/steered --prefer scenes-classify=1 --max flops=5M --json"
)
def steer(run: RunFolder, prefer: Prefer = "", max: Most = None, as_json: Json = False) -> None:
    """Show the network that preferences and a budget come to; at once, without a search. Where
    nothing is preferred, all tasks alike are.

    Of a run whose space has a decoder for each task, as the shipped `steered` has.
    """
    import json

    from nas.search.steer import Steering

    with told():
        bounds = [bound(text, "<=") for text in max or ()]
        known = Steering.load(run)
        answer = known.answer(preferences(prefer), bounds)
        if as_json:
            write(json.dumps({**answer.columns, "total": answer.total, "note": answer.note}))
            return
        show_answer(answer)
        worth = prefer or ",".join(f"{task}=1" for task in known.scales)
        words = ["nas", "extract", str(run), "--prefer", worth]
        words += [word for text in max or () for word in ("--max", text)]
        write(f"next: {shlex.join(words)} --to net")


def _lines(now: Standing) -> str:
    """How a run stands, a line each."""
    from nas.report.text import duration
    from nas.terminal import human

    what = "steps" if now.phase == "training" else "trials"
    eta = "" if now.eta_s is None else f", about {duration(now.eta_s)} left"
    rows = [
        f"{now.folder}: {now.words}",
        f"{what:<12} {now.done} of {now.total}{eta}",
        f"{'failed':<12} {now.failed}",
        f"{'workers':<12} {now.workers}",
        *(f"{'best':<12} {name} {human(value, name)}" for name, value in now.best.items()),
    ]
    for task, volume in now.volume.items():
        words = f" for {task}" if task else ""
        rows.append(f"{'front':<12} {now.front[task]} networks{words}, hypervolume {volume:.3f}")
    return "\n".join(rows)


@app.command(
    epilog="Examples:\n\nnas front runs/first --where 'latency_ms < 1' --sort accuracy\n\n"
    "nas front runs/first --objectives accuracy,params --csv > front.csv\n\n"
    "nas front runs/first --profile pi4.json --objectives accuracy,latency_ms@pi4\n\n"
    "nas front net-a net-b net-c     (networks on the test split, once retrained)"
)
def front(
    folders: Annotated[list[Path], typer.Argument(help="A run's folder, or those of networks.")],
    where: Annotated[str, typer.Option(help="As 'latency_ms < 1 and params < 1M'.")] = "",
    sort: Annotated[str, typer.Option(help="A column; best first.")] = "",
    objectives: Annotated[str, typer.Option(help="Other columns, as accuracy,params.")] = "",
    task: Annotated[str, typer.Option(help="The front of one of several tasks.")] = "",
    profile: Profiles = None,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Show the Pareto front of a run, or of networks that were retrained."""
    with told():
        run, *others = folders
        if others or (run / "architecture.json").exists():
            from nas.retrain import front_of

            whole, chosen = None, front_of(folders, columns(objectives))
        else:
            whole = nas.load(run, trust_code=trust_code)
            if profile:
                whole = whole.on_devices(profile)
            if whole.settings.per_task and not (task or where or sort or csv or objectives):
                show_fronts(whole, whole.fronts())
                show_trivial(whole)
                return
            chosen = whole.front(columns(objectives), task=task)
        if where:
            chosen = chosen.where(where)
        if sort:
            chosen = chosen.sort(sort)
        if csv:
            write(chosen.to_csv())
        else:
            show_front(chosen, task=task if whole and whole.settings.per_task else "")
            if whole:
                show_trivial(whole)


@app.command(epilog="Example: nas report runs/first")
def report(run: RunFolder, trust_code: TrustCode = False) -> None:
    """Write one offline HTML page with the interactive front."""
    from nas.report import report as write_report

    with told():
        write(f"wrote {write_report(nas.load(run, trust_code=trust_code))}")


@app.command("list", epilog="Example: nas list runs/")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder and how each stands."""
    import json

    from nas.report.standing import standings

    with told():
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: name one that holds runs")
        pairs, faults = standings(folder)
        rows: list[dict[str, Any]] = [
            {
                "run": now.folder.name,
                "space": Path(run.settings.space).name,
                "tasks": ", ".join(task.name for task in run.named),
                "stands": now.words,
                "done": f"{now.done} of {now.total}",
                "best": ", ".join(f"{name} {value:.4g}" for name, value in now.best.items()),
            }
            for run, now in pairs
        ]
        if as_json:
            write(json.dumps(rows, indent=1))
        elif rows:
            show(rows, list(rows[0]))
        else:
            write(f"no run in {folder}")
        for fault in faults:
            err.print(fault, markup=False, soft_wrap=True)


@app.command(
    epilog="Example: nas study runs/first --storage sqlite:///first.db && optuna-dashboard "
    "sqlite:///first.db"
)
def study(
    run: RunFolder,
    storage: Annotated[str, typer.Option(help="As sqlite:///first.db.")] = "",
    trust_code: TrustCode = False,
) -> None:
    """Write a run as a study of Optuna's: for optuna-dashboard, and every tool that reads one."""
    import nas
    from nas.trackers.study import mirrored

    with told():
        place = storage or f"sqlite:///{run / 'study.db'}"
        written = mirrored(nas.load(run, trust_code=trust_code), place)
        write(f"{len(written.trials)} trials in {place}; look at it: optuna-dashboard {place}")


@app.command(epilog="Example: nas compare runs/first runs/second")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two runs or more.")],
    task: Annotated[str, typer.Option(help="The front of one of several tasks.")] = "",
    objectives: Annotated[str, typer.Option(help="Other columns, as accuracy,params.")] = "",
    as_json: Json = False,
) -> None:
    """Compare the fronts of runs with the same objectives: volumes, and who dominates whom."""
    import json

    import nas
    from nas.report.standing import compared

    with told():
        if len(runs) < 2:
            raise ValueError("name two runs or more: nas compare runs/first runs/second")
        rows = compared([nas.load(run) for run in runs], task, columns(objectives))
        if as_json:
            write(json.dumps(rows, indent=1))
        else:
            show(rows, list(rows[0]))
