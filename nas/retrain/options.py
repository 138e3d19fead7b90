"""What may be asked of a retraining, beside the network's own recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from nas.export import ExportError
from nas.train import Recipe
from nas.user_code import content_digest


@dataclass(frozen=True)
class Retraining:
    """epochs, lr, seed: in place of the recipe's. weights: a file, or a network's folder, with
    whose weights it begins; by default with new ones. teacher: whose answers it learns beside the
    labels: a network's folder, a run's with shared weights (their largest network), or with
    `trust_code` any module, as `./file.py:name`; see `teacher_of`. train_on:
    train, or train+valid, where it learns to the last epoch. processes: that train together, 0 for
    one a GPU.
    """

    epochs: float | None = None
    lr: float | None = None
    weights: Path | None = None
    device: str = "auto"
    processes: int = 0
    on: str = "local"  # where those are: local, ray, or ray:ADDRESS
    trust_code: bool = False
    teacher: Path | str | None = None
    train_on: str = "train"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.teacher_module and not self.trust_code:
            raise ExportError(
                f"{self.teacher!r} is no folder of a network or a run; a module's code would be "
                "run: read it, then allow it with --trust-code"
            )
        if self.train_on not in ("train", "train+valid"):
            raise ExportError(
                f"train on {self.train_on!r}: it is train, or train+valid; test is never learned"
            )

    @property
    def teacher_module(self) -> str:
        """The teacher, where it is a module of one's own; else ""."""
        name = str(self.teacher or "")
        return "" if not name or Path(name).is_dir() else name

    @property
    def whole(self) -> bool:
        """Whether it learns from validation too."""
        return self.train_on == "train+valid"

    def changed(self, recipe: Recipe) -> Recipe:
        """The recipe with what is asked for; raises ExportError where that cannot be."""
        recipe = replace(
            recipe,
            epochs=recipe.epochs if self.epochs is None else self.epochs,
            lr=recipe.lr if self.lr is None else self.lr,
            seed=recipe.seed if self.seed is None else self.seed,
        )
        if not 0 < recipe.epochs < inf or not 0 < recipe.lr <= 10:
            raise ExportError(
                f"epochs {recipe.epochs:g} and lr {recipe.lr:g}: epochs are above 0, lr above 0 "
                "and at most 10; the weights are as they were"
            )
        if self.processes > recipe.parts:
            return replace(recipe, parts=self.processes)
        return recipe

    def facts(self, recipe: Recipe, folder: Path) -> dict[str, str]:
        """By what a retraining is known again."""
        scratch = "True"
        if self.weights is not None:
            own = self.weights.resolve() == folder.resolve()
            scratch = "False" if own else str(self.weights.resolve())
        return {
            "recipe": f"{recipe}",
            "from_scratch": scratch,
            "teacher": self._teacher,
            "train_on": "" if self.train_on == "train" else self.train_on,
        }

    @property
    def _teacher(self) -> str:
        """By what the teacher is known again."""
        if self.teacher_module:
            return f"{self.teacher_module} {content_digest(self.teacher_module)}"
        return "" if self.teacher is None else str(Path(self.teacher).resolve())


BY_RECIPE = Retraining()
