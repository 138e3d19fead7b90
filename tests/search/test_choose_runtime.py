"""Claims about what runs the subnets that a search evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nas.events import Told
from nas.measure.runtime import RUNTIMES, Runtime
from nas.plan import plan
from nas.report.details import details, shares_of
from nas.report.names import Names
from nas.search import SettingsError, load, resume, search
from nas.search import choose_runtime as module

QUICK: dict[str, Any] = {
    "trials": 3,
    "generation": 3,
    "supernet": {"steps": 12, "samples": 64},
    "objectives": ("accuracy", "flops"),
}


def noted(folder: Path) -> list[str]:
    run = load(folder)
    from nas.archive import Archive

    return [str(note["name"]) for note in Archive.open(run.folder).notes("runtime")]


def values(folder: Path) -> list[dict[str, float]]:
    return [trial.columns() for trial in load(folder).trials]


@pytest.fixture(scope="module")
def by_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "torch"
    search("mobile", ["digits"], out=folder, **QUICK, evaluate_in="torch")
    return folder


def slow(name: str, seconds: float, gap: float = 0.0) -> Runtime:
    """A runtime that takes longer, and whose results are off."""
    usual = RUNTIMES[name]

    def load(plan: Any, params: Any, n: int, device: str, ranged: Any) -> Any:
        forward = usual.load(plan, params, n, device)

        def slowly(x: torch.Tensor) -> dict[str, torch.Tensor]:
            import time

            ends = time.process_time() + seconds
            while time.process_time() < ends:
                pass
            return {name: y + gap for name, y in forward(x).items()}

        return slowly

    return Runtime(name, usual.words, usual.package, load)


@pytest.mark.parametrize(("late", "wanted"), [("torch", "onnxruntime"), ("onnxruntime", "torch")])
def test_the_faster_runtime_evaluates_and_comes_to_the_same(
    late: str, wanted: str, by_torch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.RUNTIMES, late, slow(late, 0.05))
    told: list[str] = []
    listener = lambda event: told.append(event.text) if isinstance(event, Told) else None  # noqa: E731
    search("mobile", ["digits"], out=tmp_path / "run", **QUICK, listener=listener)
    assert noted(tmp_path / "run") == [wanted]
    assert any(f"are evaluated in {RUNTIMES[wanted].words}" in text for text in told)
    for ours, theirs in zip(values(tmp_path / "run"), values(by_torch), strict=True):
        assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-4)
        assert ours["flops"] == theirs["flops"]
    monkeypatch.setitem(module.RUNTIMES, wanted, slow(wanted, 0.2))
    resume(tmp_path / "run", trials=4)
    assert noted(tmp_path / "run") == [wanted]  # what was settled stays


def test_a_runtime_that_computes_otherwise_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.RUNTIMES, "torch", slow("torch", 0.05))
    monkeypatch.setitem(module.RUNTIMES, "onnxruntime", slow("onnxruntime", 0.0, gap=0.1))
    told: list[str] = []
    listener = lambda event: told.append(event.text) if isinstance(event, Told) else None  # noqa: E731
    search("mobile", ["digits"], out=tmp_path / "run", **QUICK, listener=listener)
    assert noted(tmp_path / "run") == ["torch"]
    assert any("ONNX Runtime's results differ from torch's by" in text for text in told)


def test_operators_of_the_users_own_stay_in_torch(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "own.grammar").write_text(
        "use ./ops.py:twice as mine\nnet = conv({4, 8}) mine output(coarse)\n"
    )
    given = {**QUICK, "trials": 2, "objectives": ("accuracy", "latency_ms")}
    run = search(
        str(tmp_path / "own.grammar"), ["digits"], out=tmp_path / "run", trust_code=True, **given
    )
    assert noted(tmp_path / "run") == []
    assert all("torch" in trial.newest()["latency_ms"].device for trial in run.trials)


def test_what_a_journal_notes_of_a_runtime_does_not_hold_on_another_device(by_torch: Path) -> None:
    from nas.archive import Archive

    run = load(by_torch)
    with Archive.open(run.folder, write=True) as archive:
        archive.note("runtime", name="onnxruntime", reason="it was faster")
        settings = run.settings.model_copy(update={"evaluate_in": "auto"})
        assert _chosen(run, settings, archive) == "onnxruntime"
        elsewhere = settings.model_copy(update={"device": "cuda"})
        assert _chosen(run, elsewhere, archive) == "torch"


def _chosen(run: Any, settings: Any, archive: Any) -> str:
    from types import SimpleNamespace

    problem = run.problem.with_settings(settings)
    given: Any = SimpleNamespace(settings=settings, problem=problem)
    return str(module.choose_runtime(given, archive, lambda event: None).evaluate_in)


def test_a_run_whose_runtime_is_not_installed_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search("mobile", ["digits"], out=tmp_path / "run", **QUICK, latency={"runtime": "torch"})
    monkeypatch.setattr(Runtime, "lacks", property(lambda self: f"no {self.name} here"))
    assert load(tmp_path / "run").front().trials
    with pytest.raises(SettingsError, match="no torch here"):
        resume(tmp_path / "run", trials=4)


def test_a_latency_that_fails_is_said_and_costs_its_trials_their_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def load_some(plan: Any, params: Any, n: int, device: str, ranged: Any) -> Any:
        if plan.flops > 100_000:
            raise RuntimeError("out of memory")
        calls.append(plan.flops)
        return RUNTIMES["torch"].load(plan, params, n, device)

    record = Runtime("onnxruntime", "ONNX Runtime", "onnxruntime", load_some)
    monkeypatch.setitem(module.RUNTIMES, "onnxruntime", record)
    told: list[str] = []
    listener = lambda event: told.append(event.text) if isinstance(event, Told) else None  # noqa: E731
    given = {**QUICK, "trials": 6, "evaluate_in": "torch", "limits": ("latency_ms<=1000",)}
    run = search("mobile", ["digits"], out=tmp_path / "run", listener=listener, **given)
    timed = [trial for trial in run.trials if trial.value("latency_ms") is not None]
    assert calls
    assert {t.value("flops") <= 100_000 for t in timed} == {True}
    assert len(timed) < len(run.trials) == 6
    assert any("latency_ms cannot be measured: RuntimeError: out of memory" in t for t in told)


def test_of_a_front_that_is_timed_it_is_noted_where_the_time_goes(tmp_path: Path) -> None:
    given = {**QUICK, "objectives": ("accuracy", "latency_ms")}
    run = search("mobile", ["digits"], out=tmp_path / "run", **given)
    shares = shares_of(run)
    assert shares.keys() == {trial.id for trial in run.front()}
    for id, steps in shares.items():
        names = {step.name for step in plan(run.derivation(id), heads=run.tasks).steps}
        assert steps.keys() <= names
        assert sum(steps.values()) == pytest.approx(1, abs=0.01)
    fronts = run.fronts()
    names = Names.of(run, run.trials, fronts.values())
    for detail in details(run, list(run.front()), fronts, names, []):
        assert detail
        network = detail["network"]
        assert network["heads"][-1] == "time"
        times = [int(row[-1].removesuffix(" %")) for row in network["rows"]]
        assert sum(times) == pytest.approx(100, abs=len(times))


def test_a_profile_that_fails_costs_the_report_its_shares_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("no space left")

    monkeypatch.setattr("nas.search.latencies.latency_by_step", fails)
    told: list[str] = []
    listener = lambda event: told.append(event.text) if isinstance(event, Told) else None  # noqa: E731
    given = {**QUICK, "objectives": ("accuracy", "latency_ms")}
    run = search("mobile", ["digits"], out=tmp_path / "run", listener=listener, **given)
    assert shares_of(run) == {}
    assert any("cannot be profiled: no space left" in text for text in told)
    assert resume(run.folder).trials == run.trials


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluate_in": "onnxruntime"}, "no form in ONNX"),
        ({"latency": {"runtime": "onnxruntime"}}, "no form in ONNX"),
    ],
)
def test_a_runtime_that_cannot_hold_the_users_operator_is_refused_at_once(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "own.grammar").write_text(
        "use ./ops.py:twice as mine\nnet = conv({4, 8}) mine output(coarse)\n"
    )
    with pytest.raises(SettingsError, match=message):
        search(
            str(tmp_path / "own.grammar"),
            ["digits"],
            out=tmp_path / "run",
            trust_code=True,
            **{**QUICK, **settings},
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ({"runtime": "tflite"}, "runtime"),
        ([{"name": "a"}, {"name": "a"}], "two have one name"),
        ({"name": "a b"}, "name"),
        ({"threads": 0}, "threads"),
        ({"name": "pi"}, "every latency has a name"),
        ([], "latency"),
        ({"thread": 2}, "did you mean 'threads'"),
    ],
)
def test_a_latency_that_cannot_be_is_refused(latency: Any, message: str, tmp_path: Path) -> None:
    given = {**QUICK, "objectives": ("accuracy", "latency_ms"), "latency": latency}
    with pytest.raises(SettingsError, match=message):
        search("mobile", ["digits"], out=tmp_path / "run", **given)
