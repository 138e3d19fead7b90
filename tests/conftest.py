"""Tests run side by side: each on one thread, so that they do not get in each other's way; and with
a cache of their own, which is gone with them."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "NAS_CACHE" not in os.environ:
    os.environ["NAS_CACHE"] = tempfile.mkdtemp(prefix="nas-cache-")
    atexit.register(shutil.rmtree, os.environ["NAS_CACHE"], ignore_errors=True)
