"""Claims about actors that train together on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from nas.search import search

TINY: dict[str, Any] = {
    "trials": 2,
    "generation": 2,
    "workers": 1,
    "supernet": {"steps": 8, "batch": 16, "parts": 2},
    "objectives": ("accuracy", "flops"),
}


def test_two_actors_train_the_weights_that_one_process_does(cluster: None, tmp_path: Path) -> None:
    search("mobile", ["digits"], out=tmp_path / "here", processes=1, **TINY)
    search("mobile", ["digits"], out=tmp_path / "there", on="ray", processes=2, **TINY)
    here, there = (load_file(tmp_path / n / "bank.safetensors") for n in ("here", "there"))
    assert max(float((here[key] - there[key]).abs().max()) for key in here) < 1e-5


def test_an_actor_that_is_killed_while_it_trains_with_others_is_lost_and_not_waited_for(
    cluster: None,
) -> None:
    from nas.search.ray_crew import crew_on_ray
    from nas.train import Lost

    def member(send: Any, device: str, group: Any) -> None:
        import os
        import signal

        send(group.rank)
        if group.rank:
            os.kill(os.getpid(), signal.SIGKILL)
        group.wait()

    heard: list[int] = []
    with pytest.raises(Lost, match="lost|died"):
        for message in crew_on_ray(member, on="ray", processes=2, device="cpu"):
            heard.append(message)
    assert heard == [0]
