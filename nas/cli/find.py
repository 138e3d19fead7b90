"""The verbs that search: search, resume, trust."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import (
    AGAIN,
    AskedDevice,
    AskedOn,
    AskedProcesses,
    AskedWorkers,
    BankFile,
    Config,
    Device,
    Json,
    Latencies,
    Layout,
    Learned,
    Least,
    Most,
    Objectives,
    On,
    Out,
    Processes,
    Profiles,
    RunFolder,
    Sampler,
    Size,
    SpaceName,
    Tasks,
    Track,
    TrustCode,
    Workers,
    app,
    bound,
    carry_on,
    columns,
)
from nas.terminal import err, live, show, show_run, show_trust, told, write


@app.command(
    epilog="Examples:\n\n"
    "nas search mobile --task digits --out runs/first\n\n"
    "nas search mobile --task scenes-classify --task scenes-segment --out runs/two\n\n"
    "nas search mobile --task scenes-classify --task scenes-segment --per-task --out runs/each\n\n"
    "nas search einspace --task digits --config einspace-cpu --out runs/open\n\n"
    "nas search ./my.grammar --task mine=data.npz --max latency_ms=1 --out runs/mine\n\n"
    "nas search mobile --task digits --latency threads=2 --latency name=torch,runtime=torch\n\n"
    "nas search mobile --task digits --profile pi4.json --max latency_ms@pi4=20\n\n"
    "nas search mobile --task mine=./photos --learn-from runs/"
)
def search(
    space: SpaceName = "",
    task: Tasks = None,
    out: Out = None,
    trials: Annotated[int | None, typer.Option(help="Distinct subnets to evaluate. [200]")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the run: 90s, 10m, 2h.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same proposals. [0]")] = None,
    sampler: Sampler = None,
    per_task: Annotated[
        bool, typer.Option("--per-task", help="Each task finds an architecture of its own.")
    ] = False,
    objectives: Objectives = None,
    latency: Latencies = None,
    profile: Profiles = None,
    learn_from: Learned = None,
    max: Most = None,
    min: Least = None,
    layout: Layout = None,
    size: Size = None,
    on: AskedOn = None,
    workers: AskedWorkers = None,
    processes: AskedProcesses = None,
    device: AskedDevice = None,
    from_weights: BankFile = None,
    track: Track = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say memory, cost and ETA.")] = False,
    trust_code: TrustCode = False,
) -> None:
    """Search a space for one task or several at once. See nas settings for all there is to set."""
    from nas.search import Settings
    from nas.search import search as run_search
    from nas.search.parts import Latency
    from nas.search.settings import seconds
    from nas.trackers import parsed, tracked

    facts: dict[str, Any] = {}
    if config:
        with told():
            facts = Settings.read(config)
    named_out = facts.pop("out", None)
    folder = out or Path(named_out or Path("runs") / (Path(space or "run").stem))
    with told(carry_on(folder)):
        asked = {"layout": layout, "size": size}
        facts["tasks"] = [_asked(t, asked) for t in task or facts.get("tasks", [])]
        bounds = [bound(text, "<=") for text in max or ()]
        bounds += [bound(text, ">=") for text in min or ()]
        options = {
            "space": space or None,
            "trials": trials,
            "seed": seed,
            "sampler": sampler,
            "on": on,
            "workers": workers,
            "processes": processes,
            "device": device,
            "limits": bounds or None,
            "per_task": per_task or None,
            "objectives": columns(objectives or "") or None,
            "latency": [Latency.parse(text) for text in latency or ()] or None,
            "profiles": [str(path.absolute()) for path in profile or ()] or None,
            "learn_from": [str(path.absolute()) for path in learn_from or ()] or None,
            "budget_s": seconds(budget) if budget else None,
        }
        facts |= {key: value for key, value in options.items() if value is not None}
        if from_weights:
            facts["supernet"] = {**facts.get("supernet", {}), "weights": str(from_weights)}
        if not facts.get("space") or not facts["tasks"]:
            raise ValueError("say a space and a task: nas search mobile --task digits")
        settings = Settings.of(facts, str(config or "settings"))
        if dry_run:
            _dry_run(settings, trust_code)
            return
        with live() as listener:
            trackers = [parsed(text, folder) for text in track or ()]
            hear = tracked(listener, trackers)
            run = run_search(**facts, out=folder, listener=hear, trust_code=trust_code)
        show_run(run)


def _asked(task: str, asked: Mapping[str, object]) -> str:
    """A task of the user's own data with how it is to be read, where it does not say so itself."""
    source, _, query = task.partition("?")
    pairs = [f"{key}={v}" for key, v in asked.items() if v is not None and f"{key}=" not in query]
    if "=" not in source or not pairs:
        return task
    return f"{source}?{'&'.join([query, *pairs] if query else pairs)}"


def _dry_run(settings: Any, trust_code: bool) -> None:
    from nas.search.estimate import estimate
    from nas.task import load_tasks

    for task in load_tasks(settings.tasks, trust_code=trust_code):
        err.print(task.describe(), markup=False, soft_wrap=True)
    costs = estimate(settings, trust_code=trust_code)
    show([costs], ["bank_mb", "step_ms", "evaluation_ms", "eta_s"], "What it costs")


@app.command(
    epilog="Examples:\n\nnas resume runs/first\n\n"
    "nas resume runs/first --trials 500 --on ray   (more of a run that has ended, on Ray)\n\n"
    "nas resume runs/first --budget 1h             (as many more as fit an hour)"
)
def resume(
    run: RunFolder,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, from now on.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time from now on: 90s, 10m, 2h.")] = None,
    on: On = "local",
    workers: Workers = 0,
    processes: Processes = 0,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Carry an interrupted run on to its end, or a finished one further."""
    from nas.search import resume as run_resume
    from nas.search.settings import seconds

    with told(carry_on(run)):
        with live() as listener:
            done = run_resume(
                run,
                trials=trials,
                budget_s=seconds(budget) if budget else None,
                on=on,
                workers=workers,
                processes=processes,
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
    as_json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Measure how far a run's evaluators can be trusted, against training from scratch."""
    import json

    from nas.search.choose_evaluator import trust as measure
    from nas.search.settings import seconds

    with told(AGAIN):
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
