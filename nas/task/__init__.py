"""Tasks: what a network is asked to do, on which data, and how well it did.

task = Task.load("digits")                 # or "mine=data.npz", "./own.toml"
train, valid, test = task.splits().train, task.splits().valid, task.splits().test
loss(task, logits, y);  score(task, logits, y);  trivial_score(task)
"""

from nas.task.answers import Scorer, check_shape, loss, prior, score, soft_loss, trivial_score
from nas.task.error import TaskError
from nas.task.loader import shipped, shipped_tasks
from nas.task.samples import Samples, Split, Splits
from nas.task.target import METRICS, TARGETS, Head, Metric, Target
from nas.task.task import Task, load_tasks

__all__ = [
    "METRICS",
    "TARGETS",
    "Head",
    "Metric",
    "Samples",
    "Scorer",
    "Split",
    "Splits",
    "Target",
    "Task",
    "TaskError",
    "check_shape",
    "load_tasks",
    "loss",
    "prior",
    "score",
    "shipped",
    "shipped_tasks",
    "soft_loss",
    "trivial_score",
]
