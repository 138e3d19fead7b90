"""Taking a network home: a folder of plain PyTorch, weights, provenance and recipe; ONNX.

save(network, Path("net"), tasks=[task], recipe=Recipe(), source={"run": "first"})
network, tasks, recipe, source = load(Path("net"))
to_onnx(Path("net"))                       # net/model.onnx, checked against torch
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import loaded_late
from nas.train.recipe import Recipe

if TYPE_CHECKING:
    from nas.export.code import model_source
    from nas.export.error import ExportError
    from nas.export.folder import facts, load, note, save, save_weights
    from nas.export.integers import InIntegers, to_int8
    from nas.export.labelling import Teacher, label, module_teacher, network_teacher
    from nas.export.onnx import to_onnx
    from nas.export.plain_model import plain
    from nas.export.predictions import Prediction, draw, predict
    from nas.export.programs import to_executorch, to_litert, to_openvino, to_torch_export

__getattr__ = loaded_late(
    __name__,
    {
        "ExportError": "error",
        "InIntegers": "integers",
        "Prediction": "predictions",
        "Teacher": "labelling",
        "draw": "predictions",
        "facts": "folder",
        "label": "labelling",
        "load": "folder",
        "model_source": "code",
        "module_teacher": "labelling",
        "network_teacher": "labelling",
        "note": "folder",
        "plain": "plain_model",
        "predict": "predictions",
        "save": "folder",
        "save_weights": "folder",
        "to_executorch": "programs",
        "to_int8": "integers",
        "to_litert": "programs",
        "to_onnx": "onnx",
        "to_openvino": "programs",
        "to_torch_export": "programs",
    },
)

__all__ = [
    "ExportError",
    "InIntegers",
    "Prediction",
    "Recipe",
    "Teacher",
    "draw",
    "facts",
    "label",
    "load",
    "model_source",
    "module_teacher",
    "network_teacher",
    "note",
    "plain",
    "predict",
    "save",
    "save_weights",
    "to_executorch",
    "to_int8",
    "to_litert",
    "to_onnx",
    "to_openvino",
    "to_torch_export",
]


def __dir__() -> list[str]:
    return sorted(__all__)
