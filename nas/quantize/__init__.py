"""Networks in eight bits and fewer, as ONNX with QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from nas.quantize.policy import fill
from nas.quantize.qdq import quantized
from nas.quantize.ranges import activation_ranges

__all__ = ["activation_ranges", "fill", "quantized"]
