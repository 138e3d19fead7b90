"""Taking a network home: a folder of plain PyTorch, weights, provenance and recipe; ONNX.

save(network, Path("net"), tasks=[task], recipe=Recipe(), source={"run": "first"})
network, tasks, recipe, source = load(Path("net"))
to_onnx(Path("net"))                       # net/model.onnx, checked against torch
"""

from nas.export.code import model_source
from nas.export.error import ExportError
from nas.export.folder import facts, load, note, save, save_weights
from nas.export.integers import InIntegers, to_int8
from nas.export.label import Teacher, label, module_teacher, network_teacher
from nas.export.onnx import to_onnx
from nas.export.plain import plain
from nas.export.predict import Prediction, draw, predict
from nas.export.programs import to_executorch, to_litert, to_openvino, to_torch_export
from nas.train import Recipe

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
