"""A preparation as text beside a plain model, and as a module before it."""

from __future__ import annotations

import pprint
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from nas.export.sounds import open_sound_source, spectrum_onnx, spectrum_source
from nas.op import Shape
from nas.op.graph import Graph
from nas.plan.onnx import Before
from nas.task import Task
from nas.task.decode import Picture
from nas.task.preparation import Preparation

WIDTH = 92
LARGER = 'F.interpolate(x, size=size, mode="bilinear", align_corners=False)'

OPEN = '''\
def open_picture(path: str | Path) -> Tensor:
    """A picture's file as `prepare` takes it: (1, {channels}, {height}, {width}), bytes."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path)).convert({mode!r})
    width, height = image.size
    box = {box}
    if image.size != ({width}, {height}):
        image = image.resize(({width}, {height}), Image.Resampling.BILINEAR, box=box)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, {height}, {width}, {channels}).permute(0, 3, 1, 2)'''
BOXES = {"stretch": "(0, 0, width, height)", "crop": """_middle(width, height)"""}
MIDDLE = '''\
def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest box in the middle of a picture that has the input's sides."""
    scale = min(width / {width}, height / {height})
    across = max(0.0, (width - scale * {width}) / 2)
    down = max(0.0, (height - scale * {height}) / 2)
    return across, down, width - across, height - down'''


def preparing_source(tasks: Sequence[Task]) -> list[str]:
    """Definitions for model.py: CLASSES by task, `prepare`, and for pictures `open_picture`."""
    if not tasks:
        return []
    classes = {task.name: task.classes for task in tasks}
    preparations = {task.name: task.preparation for task in tasks}
    alike = len({(p.numbers, p.reshaped) for p in preparations.values()}) == 1
    one = next(iter(preparations.values()))
    parts = [f"CLASSES = {_laid_out(classes)}"]
    parts += [_prepare(one, tasks[0].input)] if alike else _prepare_by_task(preparations)
    spectra = {name: p.spectrum for name, p in preparations.items() if p.spectrum}
    named = {s: f"spectrum{i or ''}" for i, s in enumerate(dict.fromkeys(spectra.values()))}
    parts[1:1] = [spectrum_source(spectrum, name) for spectrum, name in named.items()]
    if spectra and not alike:
        pairs = ", ".join(f"{name!r}: {named[spectrum]}" for name, spectrum in spectra.items())
        parts.insert(1 + len(named), f"SPECTRA = {{{pairs}}}")
    if one.sound and len({p.sound for p in preparations.values()}) == 1:
        parts.append(open_sound_source(one.sound))
    pictures = {p.picture for p in preparations.values()}
    picture = one.picture
    if len(pictures) == 1 and picture and picture.mode:
        parts += _open(picture)
    return parts


def _prepare(preparation: Preparation, input: tuple[int, ...]) -> str:
    """The function that does what one preparation does."""
    (scale, mean, deviation), enlarged = preparation.numbers, preparation.enlarged
    value = "x.float()" if scale == 1 else f"x.float() / {scale:g}"
    value = f"spectrum({value})" if preparation.spectrum else value
    shape = ", ".join(["batch", *map(str, preparation.found(input))])
    lines = [
        "def prepare(x: Tensor) -> Tensor:",
        f'    """Samples as they are found, ({shape}), as the model takes them."""',
    ]
    if not mean:
        return "\n".join([*lines, f"    return {value}"])
    across = ", ".join(["1", "-1", *("1" for _ in input[1:])])
    for name, values in (("mean", mean), ("deviation", deviation)):
        numbers = f"{_laid_out(list(values))}, device=x.device"
        if "\n" not in numbers:
            lines.append(f"    {name} = torch.tensor({numbers}).reshape({across})")
            continue
        inner = [f"        {line}" for line in numbers.splitlines()]
        lines += [f"    {name} = torch.tensor(", *inner, f"    ).reshape({across})"]
    value = f"({value} - mean) / deviation"
    if enlarged:
        lines.append(f"    x = {value}")  # one channel less several means is several
        value = LARGER.replace("size=size", f"size={enlarged.to[1:]}")
    return "\n".join([*lines, f"    return {value}"])


def _prepare_by_task(preparations: Mapping[str, Preparation]) -> list[str]:
    """The function that does what each of several does."""
    enlarged = any(preparation.enlarged for preparation in preparations.values())
    facts: dict[str, object] = {name: p.numbers for name, p in preparations.items()}
    if enlarged:
        sizes = {
            name: p.enlarged.to[1:] if p.enlarged else None for name, p in preparations.items()
        }
        facts = {name: (*p.numbers, sizes[name]) for name, p in preparations.items()}
    lines = [
        "def prepare(x: Tensor, task: str) -> Tensor:",
        '    """Samples of a task as they are found, as the model takes them."""',
        f"    scale, mean, deviation{', size' if enlarged else ''} = PREPARATIONS[task]",
        "    across = [1, -1, *(1 for _ in x.shape[2:])]",
        "    m, d = (torch.tensor(v, device=x.device).reshape(across) for v in (mean, deviation))",
    ]
    lines.append("    x = x.float() / scale")
    if any(preparation.spectrum for preparation in preparations.values()):
        lines.append("    x = SPECTRA[task](x) if task in SPECTRA else x")
    lines += [
        "    x = (x - m) / d",
        f"    return {LARGER} if size else x" if enlarged else "    return x",
    ]
    return [f"PREPARATIONS = {_laid_out(facts)}", "\n".join(lines)]


def _open(picture: Picture) -> list[str]:
    facts = {"height": picture.height, "width": picture.width}
    text = OPEN.format(
        mode=picture.mode, channels=len(picture.mode), box=BOXES[picture.fit], **facts
    )
    return [MIDDLE.format(**facts), text] if picture.fit == "crop" else [text]


def _laid_out(values: object) -> str:
    """A value as text of short lines that Python reads."""
    return pprint.pformat(values, width=WIDTH, compact=True, sort_dicts=False)


def one_preparation(tasks: Sequence[Task]) -> Preparation | None:
    """How samples of all tasks are prepared; None where they differ in it, or there is no task."""
    first = tasks[0].preparation if tasks else None
    return first if all(task.preparation == first for task in tasks) else None


class Raw(nn.Module):
    """A model that prepares its samples itself."""

    def __init__(self, model: nn.Module, preparation: Preparation):
        super().__init__()
        self.model, self.preparation = model, preparation

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        result: Tensor | dict[str, Tensor] = self.model(self.preparation(x))
        return result


def preparing_onnx(preparation: Preparation, input: Shape, as_bytes: bool) -> Before:
    """What the preparation does to a sample, as the nodes before a network's."""
    scale, mean, deviation = preparation.numbers

    def write(graph: Graph, value: str) -> str:
        graph.step = "prepare"
        across = (-1, *(1 for _ in input.dims[1:]))
        if as_bytes:
            value = graph("Cast", value, to=1)  # float32
        if scale != 1:
            value = graph("Div", value, graph.number(scale))
        enlarged = preparation.enlarged
        if enlarged and (repeated := enlarged.to[0] // enlarged.found[0]) > 1:
            value = graph("Concat", *[value] * repeated, axis=1)
        if preparation.spectrum:
            value = spectrum_onnx(graph, value, preparation.spectrum)
        if mean:
            for op, values in (("Sub", mean), ("Div", deviation)):
                numbers = np.array(values, np.float32).reshape(across)
                value = graph(op, value, graph.constant(numbers))
        if enlarged:
            size = graph.integers(*enlarged.to[1:])
            value = graph("Resize", value, "", "", size, axes=[2, 3], mode="linear")
        return value

    return write
