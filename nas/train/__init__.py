"""Training: recipes, what a step sees and does, and on which device."""

from __future__ import annotations

from nas.train.device import DeviceError, resolved
from nas.train.feed import Batches, Feed, groups
from nas.train.recipe import Recipe
from nas.train.together import Group, Lost, device_of
from nas.train.trainer import Trainer, Weights, chance, train
from nas.train.turns import StepError, StepLosses, TrainingError, Turn
from nas.train.update import AVERAGE, OPTIMIZERS, Lease, update

__all__ = [
    "AVERAGE",
    "OPTIMIZERS",
    "Batches",
    "DeviceError",
    "Feed",
    "Group",
    "Lease",
    "Lost",
    "Recipe",
    "StepError",
    "StepLosses",
    "Trainer",
    "TrainingError",
    "Turn",
    "Weights",
    "chance",
    "device_of",
    "groups",
    "resolved",
    "train",
    "update",
]
