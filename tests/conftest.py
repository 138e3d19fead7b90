"""Tests run side by side: each on one thread, so that they do not get in each other's way; and with
a cache of their own, which is gone with them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "NAS_CACHE" not in os.environ:
    os.environ["NAS_CACHE"] = tempfile.mkdtemp(prefix="nas-cache-")
    atexit.register(shutil.rmtree, os.environ["NAS_CACHE"], ignore_errors=True)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # which is read when the library is imported
LONG = (
    "test_ray.py",
    "test_misbehaving.py",
    "test_extraction.py",
    "test_limits.py",
    "test_cli.py",
    "test_tune.py",
    "test_propose.py",
    "test_predicted_sampler.py",
    "test_readme.py",
    "test_search.py",
    "test_ray_crew.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that no worker is left alone with one."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all the tests that need not start their own."""
    from nas.search.ray import connected

    with connected("ray", 2):
        yield
