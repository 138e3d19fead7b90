"""What several verbs take, and the app that they are verbs of."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Find neural networks that are accurate, small and fast for your own data and device.",
    epilog="First run: [bold]nas search mobile --task digits --out runs/first[/bold]",
)

RunFolder = Annotated[Path, typer.Argument(help="A run's folder, as runs/first.")]
NetFolder = Annotated[Path, typer.Argument(help="A network's folder, as net.")]
SpaceName = Annotated[str, typer.Argument(help="A shipped space, or a file as ./my.grammar.")]
Device = Annotated[str, typer.Option(help="auto (the best there is), cpu, cuda, cuda:1 …")]
Processes = Annotated[
    int, typer.Option(min=0, help="Processes that train together; 0 is one a GPU.")
]
On = Annotated[str, typer.Option(help="local, ray, or ray:ADDRESS.")]
Workers = Annotated[int, typer.Option(min=0, help="Evaluators side by side; 0 is one a core.")]
AskedOn = Annotated[str | None, typer.Option(help="local, ray, or ray:ADDRESS. \\[local]")]
AskedWorkers = Annotated[
    int | None, typer.Option(help="Evaluators side by side; 0 is one a core. \\[0]")
]
AskedProcesses = Annotated[
    int | None, typer.Option(help="Processes that train together; 0 is one a GPU. \\[0]")
]
AskedDevice = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 … \\[auto]")]
BankFile = Annotated[
    Path | None, typer.Option(help="A bank.safetensors that the supernet begins with.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run Python code that the space or a task names.")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="A shipped task, ./my.toml, or name=data.npz, folder, module:function."),
]
Out = Annotated[Path | None, typer.Option(help="The run's folder, a new one.")]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="predicted, tree, evolution, nsga2, tpe, gp or random; auto is predicted, or tree "
        "where children inherit; ./file.py:name is an Optuna sampler of your own. \\[auto]"
    ),
]
Objectives = Annotated[str | None, typer.Option(help="Columns, as accuracy,flops,latency_ms.")]
Latencies = Annotated[
    list[str] | None,
    typer.Option(
        "--latency",
        help="As runtime=torch,threads=4,batch=8; with name=pi it is latency_ms@pi (repeatable).",
    ),
]
Profiles = Annotated[
    list[Path] | None,
    typer.Option("--profile", help="A device's, from nas probe: latency_ms@NAME (repeatable)."),
]
Learned = Annotated[
    list[Path] | None,
    typer.Option("--learn-from", help="Earlier runs, or a folder of them (repeatable)."),
]
Most = Annotated[
    list[str] | None, typer.Option("--max", help="At most, as latency_ms=1 or flops=2M.")
]
Least = Annotated[list[str] | None, typer.Option("--min", help="At least, as accuracy=0.9.")]
Prefer = Annotated[
    str, typer.Option(help="What tasks are worth to you, as segment=0.7,classify=0.3.")
]
Layout = Annotated[
    str | None, typer.Option(help="Axes of your own arrays: nf, nhw, ncl, nlc, nchw, nhwc.")
]
Size = Annotated[
    int | None, typer.Option(help="Side of the square that pictures in folders are cut to.")
]
Track = Annotated[
    list[str] | None,
    typer.Option(help="tensorboard, mlflow, wandb or optuna; mlflow=PLACE: where (repeatable)."),
]
Config = Annotated[
    Path | None, typer.Option(help="A TOML file with any of these; or einspace, einspace-cpu.")
]
AGAIN = "The same command carries on where it was."


def carry_on(folder: Path) -> str:
    """How an interrupted run goes on."""
    return f"nas resume {shlex.quote(str(folder))} carries on where it was."


def columns(text: str) -> list[str]:
    """Column names written with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def preferences(text: str) -> dict[str, float]:
    """What tasks are worth, written as a=0.7,b=0.3; raises ValueError."""
    worth = {}
    for part in columns(text):
        name, sign, number = part.rpartition("=")
        try:
            worth[name if sign else part] = float(number)
        except ValueError:
            raise ValueError(f"--prefer {part!r} is not like segment=0.7") from None
    return worth


def bound(text: str, sign: str) -> str:
    """A limit as settings write it."""
    return text if "<" in text or ">" in text else text.replace("=", sign, 1)
