"""The verbs that take networks home and train, export and use them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

import nas
from nas.cli.options import (
    AGAIN,
    Device,
    Json,
    Least,
    Most,
    NetFolder,
    On,
    Prefer,
    Processes,
    RunFolder,
    TrustCode,
    app,
    bound,
    columns,
    preferences,
)
from nas.terminal import live, show, show_answer, told, write


@app.command(
    epilog="Examples:\n\nnas extract runs/first --id 6d9e644c --to net\n\n"
    "nas extract runs/first --pick knee --max latency_ms=1 --to net\n\n"
    "nas extract runs/each --task scenes-segment --to net     (for one of several tasks alone)\n\n"
    "nas extract runs/steered --prefer scenes-segment=0.7,scenes-classify=0.3 --max flops=20M"
)
def extract(
    run: RunFolder,
    id: Annotated[str, typer.Option(help="A trial's id; without it the front's first.")] = "",
    pick: Annotated[
        str, typer.Option(help="best (if nothing is said), knee, or a column whose least is taken.")
    ] = "",
    max: Most = None,
    min: Least = None,
    task: Annotated[str, typer.Option(help="A network for one of several tasks alone.")] = "",
    prefer: Prefer = "",
    to: Annotated[Path, typer.Option(help="The new folder.")] = Path("net"),
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Take it though it scores otherwise than it did.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Take a network out: model.py, its weights and architecture, a recipe, a card."""
    from nas.evaluate import EVALUATORS

    with told():
        chosen = nas.load(run, trust_code=trust_code)
        bounds = [bound(text, "<=") for text in max or ()] + [
            bound(text, ">=") for text in min or ()
        ]
        if prefer and (id or pick):
            other = "--id" if id else "--pick"
            raise ValueError(f"--prefer chooses a network, and so does {other}: leave one out")
        if prefer:
            answer = chosen.steer(preferences(prefer), bounds)
            show_answer(answer)
        wanted = answer if prefer else id or chosen.pick(pick or "best", bounds, task=task)
        taken = chosen.save(wanted, to, task=task, checked=not unchecked)
        write(f"{to}: {taken.plan.params:,} params, {taken.plan.flops:,} FLOPs")
        if not EVALUATORS[chosen.evaluator].keeps:
            write("its weights are fresh: this run trains candidates from scratch and keeps none")
        write(f"next: nas retrain {to} --epochs 20   ·   nas export {to} --onnx")


@app.command(
    epilog="Examples:\n\nnas retrain net --epochs 20\n\n"
    "nas retrain net --from-weights net   (on from the weights that it has)\n\n"
    "nas retrain net --seeds 3 --teacher runs/first\n\n"
    "nas retrain net --teacher ./mine.py:build --trust-code\n\n"
    "nas retrain runs/first --id 6d9e644c --id 14ddf09b --id 3924a908 --on ray --asha"
)
def retrain(
    folder: Annotated[Path, typer.Argument(help="A network's folder, or a run's with --id.")],
    id: Annotated[list[str] | None, typer.Option(help="Trials of the run (repeatable).")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training split.")] = None,
    lr: Annotated[float | None, typer.Option(help="The peak learning rate.")] = None,
    from_weights: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file or a net's folder (its own too) to begin with."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A net's folder, a run's (its largest network), or ./file.py:function of a module "
            "(with --trust-code): learn its answers."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings; the best by validation is kept, all are said.")
    ] = 1,
    train_on: Annotated[
        str, typer.Option(help="train, or train+valid: then to the last epoch, unseen.")
    ] = "train",
    on: On = "local",
    asha: Annotated[
        bool, typer.Option("--asha", help="On Ray: stop those of several that fall behind.")
    ] = False,
    processes: Processes = 0,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Train networks fully; the best by validation is kept. Interrupted, it carries on."""
    from nas.retrain import Curve, Retraining, retrain_seeds, retrain_trials, row_of
    from nas.retrain import retrain as train_again

    with told(AGAIN):
        options = Retraining(
            epochs=epochs,
            lr=lr,
            weights=from_weights,
            teacher=teacher,
            train_on=train_on,
            device=device,
            processes=processes,
            on=on,
            trust_code=trust_code,
        )
        with live() as listener:
            if asha and not (folder / "run.toml").exists():
                raise ValueError("--asha compares trials of a run: give its folder, and their --id")
            if (folder / "run.toml").exists() and seeds > 1:
                raise ValueError("--seeds is for one network: nas extract it, then retrain that")
            if (folder / "run.toml").exists():
                rows = retrain_trials(
                    folder, id or [], options, on=on, asha=asha, listener=listener
                )
            elif id or (on != "local" and processes < 2):
                raise ValueError(
                    f"{folder} is no run: --id belongs to a run's folder, and so does --on but for "
                    "several --processes"
                )
            else:
                if seeds > 1:
                    after = retrain_seeds(folder, seeds, options, listener=listener)
                else:
                    _, after = train_again(folder, options, listener=listener)
                rows = [row_of(folder, measured) for measured in after if measured.task]
        for net in dict.fromkeys(str(row["network"]) for row in rows):
            write(f"{net}: {Curve.load(Path(net))}")
        over = ["mean", "deviation"] if seeds > 1 else []
        columns_shown = ["network", "task", "metric", "before", "after", *over, "without looking"]
        show(rows, columns_shown, "On the test split")


@app.command(epilog="Examples:\n\nnas export net --onnx\n\nnas export net --int8 --low 50")
def export(
    folder: NetFolder,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX, checked in onnxruntime.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="torch.export's model.pt2.")] = False,
    openvino: Annotated[
        bool, typer.Option("--openvino", help="OpenVINO's model.xml, in floats.")
    ] = False,
    executorch: Annotated[
        bool, typer.Option("--executorch", help="ExecuTorch's model.pte, with XNNPACK.")
    ] = False,
    litert: Annotated[
        bool, typer.Option("--litert", help="LiteRT's model.tflite, for one sample at a time.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="ONNX in integers, and what that does to the metrics.")
    ] = False,
    low: Annotated[
        int | None, typer.Option(min=0, max=100, help="Percent of its weights in 4 bits.")
    ] = None,
    prepared: Annotated[
        bool, typer.Option("--prepared", help="It takes prepared samples, not samples as found.")
    ] = False,
    tested: Annotated[
        bool, typer.Option("--tested", help="Its metrics on the test split too, onto the card.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Write a network for other runtimes, checked against PyTorch's outputs."""
    with told():
        if not (onnx or torch or openvino or executorch or litert or int8):
            raise ValueError(f"say what to write: nas export {folder} --onnx")
        if low is not None and not int8:
            raise ValueError("--low says how many weights have four bits: with --int8")
        from nas import export as to

        words = {"prepared": prepared, "tested": tested, "trust_code": trust_code}
        written = []
        if onnx:
            with live() as listener:
                path = to.to_onnx(folder, **words, listener=listener)
            written.append(path)
        others = {
            to.to_torch_export: torch,
            to.to_openvino: openvino,
            to.to_executorch: executorch,
            to.to_litert: litert,
        }
        for export_to in (other for other, asked in others.items() if asked):
            written.append(export_to(folder, **words))
        for path in written:
            write(f"wrote {path}, outputs equal to PyTorch's")
        if int8:
            given = to.to_int8(folder, low=low, prepared=prepared, trust_code=trust_code)
            show(
                [row._asdict() for row in given.judged],
                ["task", "metric", "floats", "integers"],
                "On the test split",
            )
            sizes = f"{given.floats_mb:.3g} MB, {given.integers_mb:.3g} MB in their bits"
            write(f"wrote {given.path}; weights {sizes}")


@app.command(
    epilog="Examples:\n\nnas predict net photo.jpg\n\nnas predict net photos/*.jpg --json\n\n"
    "nas predict net photo.jpg --to masks     (of a class a pixel)"
)
def predict(
    folder: NetFolder,
    files: Annotated[list[Path], typer.Argument(help="Pictures, or .npy files of samples.")],
    to: Annotated[Path, typer.Option(help="A folder for masks, of a class a pixel.")] = Path("."),
    most: Annotated[int, typer.Option("--top", help="Classes to print of each.")] = 3,
    as_json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Say what a network sees in files: classes and how sure it is, or masks."""
    import json

    from nas.export import draw
    from nas.export import predict as predictions

    with told():
        for prediction in predictions(folder, files, trust_code=trust_code):
            shown = dict(prediction.tasks)
            for task, value in prediction.tasks.items():
                said = isinstance(value, dict | list)
                if not said:
                    shown[task] = str(draw(value, to, prediction, task))
                if not as_json:
                    words = prediction.words(task, most) if said else shown[task]
                    write(f"{prediction.sample}  {task}: {words}")
            if as_json:
                write(json.dumps({"sample": prediction.sample, **shown}))


@app.command(
    epilog="Examples:\n\nnas label pets=./photos --teacher segmenter --out mask.npz\n\n"
    "nas label pets=./photos --teacher ./seg.py:build --predict pixels --trust-code --out m.npz\n\n"
    "nas search fbnetv5 --task pets=./photos --task 'mask=./photos?labels=mask.npz' --per-task"
)
def label(
    task: Annotated[str, typer.Argument(help="The samples, as a task: name=./photos, ./my.toml.")],
    teacher: Annotated[str, typer.Option(help="A network's folder, or ./file.py:function.")],
    out: Annotated[Path, typer.Option(help="A new .npz file.")],
    head: Annotated[str, typer.Option(help="Which of a network's tasks.")] = "",
    predict: Annotated[
        str, typer.Option(help="What a module's logits are of: class, pixels …")
    ] = "",
    classes: Annotated[str, typer.Option(help="Their names, with commas between.")] = "",
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Have a trained network say what is in samples, for a task that nobody labelled."""
    from nas.export import ExportError, module_teacher, network_teacher
    from nas.export import label as labelled
    from nas.task import TARGETS, Task
    from nas.train import resolved

    with told(), live() as listener:
        place = resolved(device)
        if Path(teacher).is_dir():
            if predict or classes:
                raise ExportError(f"{teacher} says itself what it predicts: leave that out")
            known = network_teacher(Path(teacher), head, device=place, trust_code=trust_code)
        elif not trust_code:
            raise ExportError(
                f"{teacher!r} is no folder of a network; a function would be run: read it, then "
                "allow it with --trust-code"
            )
        elif predict not in TARGETS:
            raise ExportError(f"--predict {predict!r} is none of {', '.join(TARGETS)}: say one")
        else:
            known = module_teacher(teacher, predict, columns(classes), device=place)
        samples = Task.load(task, trust_code=trust_code)
        labels = labelled(samples, known, out, device=place, listener=listener)
    name, _, source = task.partition("=")
    count, kinds = sum(map(len, labels.ys.values())), ", ".join(labels.classes[:8])
    write(f"wrote {out}: {labels.target} of {count:,} samples, {len(labels.classes)}: {kinds}")
    source, _, query = source.partition("?")
    if not source:
        write(f'next: a definition of your own with labels = "{out}" under [data]')
        return
    kept = [p for p in query.split("&") if p and p.partition("=")[0] not in ("predict", "balance")]
    asked = f"{name}2={source}?{'&'.join([*kept, f'labels={out}'])}"
    write(f"next: nas search fbnetv5 --task {shlex.quote(task)} --task {shlex.quote(asked)}")
