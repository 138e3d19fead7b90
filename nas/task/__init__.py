"""Tasks: what a network is asked to do, on which data, and how well it did.

task = Task.load("digits")                 # or "mine=data.npz", "./own.toml"
train, valid, test = task.splits().train, task.splits().valid, task.splits().test
loss(task, logits, y);  score(task, logits, y);  trivial_score(task)
"""

from nas.task.losses import loss, soft_loss
from nas.task.metrics import METRICS, score, trivial_score
from nas.task.task import (
    DENSE_HEAD,
    POOLED_HEAD,
    Head,
    Split,
    Splits,
    Task,
    TaskError,
    load_tasks,
    shipped,
    shipped_tasks,
)

__all__ = [
    "DENSE_HEAD",
    "METRICS",
    "POOLED_HEAD",
    "Head",
    "Split",
    "Splits",
    "Task",
    "TaskError",
    "load_tasks",
    "loss",
    "score",
    "shipped",
    "shipped_tasks",
    "soft_loss",
    "trivial_score",
]
