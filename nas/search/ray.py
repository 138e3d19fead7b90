"""Ray: subnets evaluated by long-lived actors.

A Ray started here listens on loopback alone and ends with what started it; a cluster is joined,
never started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.evaluate import EVALUATORS
from nas.files import alive
from nas.search.error import RunError
from nas.search.job import Job, Outcome, longest_s
from nas.search.settings import Settings
from nas.search.worker import Worker

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
ENVIRONMENT = {  # Ray reads some of it on import
    LOOPBACK: "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 as it comes: where others work, workers hardly begin
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # printed here, else; told below
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints, however quiet it is asked to be
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends it, and checkpoints serve to go on
}
TOKENS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
OWN_TOKEN = Path("~/.ray/auth_token").expanduser()
if not (OWN_TOKEN.exists() or "ray" in sys.modules or any(name in os.environ for name in TOKENS)):
    # without it anybody on this machine could run code in a Ray that is started here; read but once
    ENVIRONMENT |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
import ray  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray.exceptions import RayError, RayTaskError  # noqa: E402

START_S = 300.0  # the longest a worker may take to load a run, or to get its cores
JOIN_S = 5.0
FILES = ("space.grammar", "bank.safetensors")
OBJECTS_MB = 100
SCRATCH = "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()  # short: it holds sockets

log = logging.getLogger(__name__)


@contextlib.contextmanager
def connected(on: str, cpus: int | None = None, objects_mb: float = 0) -> Iterator[None]:
    """Ray, inside: one of our own for "ray", the cluster at ADDRESS for "ray:ADDRESS" or
    "ray://HOST:PORT". A Ray that this process has joined already is used and left as it is.

    Raises RunError where no cluster answers.
    """
    if ray.is_initialized():
        yield
        return
    _sweep()
    scratch = tempfile.mkdtemp(prefix=f"nas-{os.getpid()}-", dir=SCRATCH)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if on == "ray":
            _loopback(True)
            ray.init(
                "local",
                num_cpus=cpus,
                object_store_memory=int((OBJECTS_MB + objects_mb) * 1e6),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=scratch,
            )
        else:
            _join(on if on.startswith("ray://") else on.removeprefix("ray:"))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process without a word
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep() -> None:
    """Remove the scratch folders of this user's processes that are no more."""
    for path in Path(SCRATCH).glob("nas-*-*"):
        owner = re.fullmatch(r"nas-(\d+)-\w+", path.name)
        with contextlib.suppress(OSError):
            mine = not path.is_symlink() and path.stat().st_uid == os.getuid()
            if owner and mine and not alive(int(owner[1])):
                shutil.rmtree(path, ignore_errors=True)


def _loopback(alone: bool) -> None:
    """Whether Ray's processes bind 127.0.0.1 alone, also where others imported Ray before us."""
    os.environ[LOOPBACK] = "0" if alone else "1"
    ray_constants.ENABLE_RAY_CLUSTER = not alone


def _join(address: str) -> None:
    """Join a cluster. Asked for one that is not there, Ray tries for minutes and ends the process,
    so the port is tried first."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    fix = (
        "start one with `ray start --head`, set RAY_AUTH_MODE=token where it asks for its token, "
        "or leave the address out: --on ray"
    )
    try:
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), timeout=JOIN_S).close()
        _loopback(host in ("127.0.0.1", "localhost"))
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, SystemExit) as error:
        raise RunError(
            f"no Ray cluster could be joined at {address}: {str(error).strip(' .')}; {fix}"
        ) from None


class Actor:
    """A worker in a process of its own. `start` is a call, so that its errors come back."""

    def start(
        self, files: dict[str, bytes], settings: Settings, trust_code: bool, where: str
    ) -> None:
        """Load a run from the bytes of its files; relative paths are those of `where`."""
        settle(where)
        with tempfile.TemporaryDirectory(prefix="nas-") as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            self.worker = Worker(Path(folder), settings, trust_code=trust_code)
        for task in self.worker.problem.tasks:
            task.splits()

    def evaluate(self, job: Job) -> Outcome:
        return self.worker(job)


def settle(where: str) -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):  # another machine may not have it
        os.chdir(where)


@dataclass(frozen=True)
class Call:
    """A call under way: to a worker, of a job (None while it starts), to end by `until`."""

    worker: Any
    job: Job | None
    begun: float
    until: float


class RayPool:
    """Evaluators in actors, a core each. One that dies or hangs fails its job and is replaced;
    one that cannot start is not."""

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        self.limit_s = longest_s(settings)
        self.used = "\nuse " in "\n" + (folder / "space.grammar").read_text(encoding="utf-8")
        files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
        self.gpus, self.device = own_device(settings.resolved_device)
        self.free: list[Any] = []
        self.calls: dict[Any, Call] = {}
        with contextlib.ExitStack() as stack:
            size_mb = sum(map(len, files.values())) / 1e6
            stack.enter_context(connected(settings.on, settings.workers or None, 2 * size_mb))
            given = settings.model_copy(update={"device": self.device})
            self.start = ray.put(files), given, trust_code, os.getcwd()
            self.workers = settings.workers or self._room()
            self.stack = stack.pop_all()

    def _room(self) -> int:
        """Workers that fit the cores (and GPUs) that nobody uses."""
        resources: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        fitting = int(resources.get("CPU", 1))
        return max(1, min(fitting, int(resources.get("GPU", 1))) if self.gpus else fitting)

    def evaluate(
        self,
        jobs: Sequence[Job],
        *,
        begun: Callable[[Job], None] = lambda job: None,
        ends: float = float("inf"),
    ) -> Iterator[Outcome]:
        """Outcomes as they come. Raises what a worker raises on loading the run, and RunError
        where none can start."""
        waiting = list(reversed(jobs))
        try:
            while waiting or any(call.job for call in self.calls.values()):
                if time.monotonic() > ends:
                    return
                self._hire()
                while waiting and self.free:
                    worker, job = self.free.pop(0), waiting.pop()
                    if self.used or EVALUATORS[job.evaluator].alone:
                        begun(job)
                    self._note(worker.evaluate.remote(job), worker, job, self.limit_s)
                yield from self._heard(ends)
        finally:
            for ref in [ref for ref, call in self.calls.items() if call.job]:
                ray.kill(self.calls.pop(ref).worker)

    def _hire(self) -> None:
        actor = ray.remote(Actor).options(
            num_cpus=1, num_gpus=self.gpus, max_restarts=0, max_task_retries=0
        )
        while len(self.free) + len(self.calls) < self.workers:
            worker: Any = actor.remote()
            self._note(worker.start.remote(*self.start), worker, None, START_S)

    def _note(self, ref: Any, worker: Any, job: Job | None, limit_s: float) -> None:
        now = time.monotonic()
        self.calls[ref] = Call(worker, job, now, now + limit_s)

    def _heard(self, ends: float) -> Iterator[Outcome]:
        """Wait until a call ends or is over its time, or all time is over."""
        soonest = min(ends, *(call.until for call in self.calls.values()))
        done, _ = ray.wait(list(self.calls), timeout=max(0.0, soonest - time.monotonic()))
        for ref in done:
            call = self.calls.pop(ref)
            try:
                outcome = ray.get(ref)
            except RayTaskError as error:
                ray.kill(call.worker)
                raise error.cause from None
            except RayError as error:
                yield from self._lost(call, f"{why(error)}")
            else:
                self.free.append(call.worker)
                if call.job:
                    yield outcome
        for ref, call in list(self.calls.items()):
            if time.monotonic() > call.until:
                del self.calls[ref]
                ray.kill(call.worker)
                yield from self._lost(call, f"it took more than {call.until - call.begun:.0f} s")

    def _lost(self, call: Call, reason: str) -> Iterator[Outcome]:
        if call.job:
            yield Outcome(call.job.number, (), reason, time.monotonic() - call.begun)
            return
        self.workers -= 1
        if not self.workers:
            raise RunError(
                f"no worker could start on Ray; of the last one: {reason}. Has the cluster free "
                "cores, and this version of nas?"
            )
        log.warning("a worker could not start: %s; going on with %d", reason, self.workers)

    @property
    def parallel(self) -> int:
        return self.workers

    def close(self) -> None:
        """End the workers, and Ray where it was started for this pool."""
        workers = self.free + [call.worker for call in self.calls.values()]
        self.free, self.calls = [], {}
        with self.stack:
            for worker in workers:
                ray.kill(worker)


def own_device(device: str) -> tuple[int, str]:
    """GPUs for one process and the name of its device: Ray shows a process its own GPU alone."""
    return (1, "cuda") if device.startswith("cuda") else (0, device)


def why(error: BaseException) -> str:
    """What Ray says of a death, without its identifiers and guesses."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith("\t")]
    reason = re.split(r"There are some potential|Some common causes", " ".join(lines))[0]
    reason = reason.rpartition("Worker exit detail: ")[2].strip(" .")
    return f"its worker died (killed, out of memory, or crashed): {reason[:300]}"
