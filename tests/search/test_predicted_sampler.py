"""What every sampler that breeds derivations claims, of the one that predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from sampler_case import SamplerCase, bounded

from nas.grammar import Derivation
from nas.search import PredictedSampler


class TestPredicted(SamplerCase, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    def make(
        self,
        seed: int,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
    ) -> PredictedSampler:
        return PredictedSampler(seed, 20, start, key)

    def test_a_childs_parts_are_where_its_lineage_says(self) -> None:
        """What it proposes by predictors has no parents: it comes of a search among them."""

    def test_who_breaks_a_constraint_is_no_parent_beside_who_keeps_it(self) -> None:
        """By how much it is broken is predicted: what is proposed later keeps it more often."""
        study = bounded(self.make(0))
        kept = [trial.constraints["steps"] <= 0 for trial in study.trials]
        assert sum(kept[40:]) > sum(kept[:20])
        assert sum(kept[40:]) > 10
