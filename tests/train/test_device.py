"""Claims about devices: the best is meant by auto, and one that is not there is said."""

from __future__ import annotations

import pytest
import torch

from nas.train import DeviceError, resolved
from nas.train.device import seen, short_of_memory


def test_auto_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved("auto") == seen()[0].partition(":")[0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert seen()[:2] == ["cuda:0", "cuda:1"]
    assert resolved("auto") == "cuda"


@pytest.mark.parametrize("name", ["gpu", "abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_said_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"device '{name}' is not here.*there are auto, .*cpu"):
        resolved(name)


def test_what_torch_says_of_memory_is_known_and_nothing_else() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert short_of_memory(caught.value)
    assert short_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not short_of_memory(RuntimeError("shapes cannot be multiplied"))
