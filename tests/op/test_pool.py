"""Claims about windows."""

from __future__ import annotations

import pytest

from nas.op import OPERATORS, Shape, ShapeError, infer


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_a_window_that_is_far_larger_than_the_image_is_refused(name: str) -> None:
    pool, image = OPERATORS[name], Shape.of((4, 8, 8))
    assert infer(pool, (image,), pool.bind((3, 2), {})).outputs[0].space == (4, 4)
    assert infer(pool, (Shape.of((4, 1, 1)),), pool.bind((3, 2), {})).outputs[0].space == (1, 1)
    with pytest.raises(ShapeError, match="a window of 64 is more than twice as large"):
        infer(pool, (image,), pool.bind((64, 64), {}))
