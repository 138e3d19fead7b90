"""Retraining: an extracted network, or trials of a run, here or on Ray."""

from __future__ import annotations

from nas.export.curve import Curve
from nas.retrain.net import figures, retrain, retrained
from nas.retrain.options import Retraining
from nas.retrain.seeds import retrain_seeds
from nas.retrain.trials import front_of, retrain_trials, row_of

__all__ = [
    "Curve",
    "Retraining",
    "figures",
    "front_of",
    "retrain",
    "retrain_seeds",
    "retrain_trials",
    "retrained",
    "row_of",
]
