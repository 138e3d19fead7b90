"""What every sampler that breeds derivations claims, of the one that predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from sampler_case import SamplerCase

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
