"""Claims about the page: whole, offline, escaped, and honest about how figures came about."""

from __future__ import annotations

import errno
import json
import math
import random
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Archive, Measurement, Trial
from nas.grammar import Grammar, sample
from nas.report import page as page_module
from nas.report import render, report
from nas.search import Run, Settings, load
from nas.search.folder import create

HOSTILE = "</script><b onclick=x>'\"&{{7*7}}"
VOID = {"meta", "link", "input", "br", "img"}
CLOCK = "torch 2.13.0 eager, cpu x86_64, threads 1, batch 1, float32"


class Reader(HTMLParser):
    """The tags, attributes and scripts of a page; a tag that is not closed is an error."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.styles = ""
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self.open[-1] != "p":
            raise AssertionError("a paragraph was closed twice")
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] == ["style"]:
            self.styles += data
        else:
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0], parse_constant=_no_constant)

    @property
    def own_script(self) -> str:
        return self.scripts[2]


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def metric(name: str, value: float, task: str, split: str = "valid", evaluator: str = "shared"):
    steps = "600 supernet steps"
    return Measurement(name, value, "fraction", task, split, evaluator, 600, steps, 0)


def measured(task: str, accuracy: float, flops: float, name: str = "accuracy"):
    return (
        metric(name, accuracy, task),
        Measurement("flops", flops, "FLOPs", evaluator="arithmetic"),
        Measurement("params", flops / 10, "parameters", evaluator="arithmetic"),
        Measurement("size_mb", flops * 4e-7, "MB", evaluator="arithmetic"),
        Measurement(
            "latency_ms", flops / 4e5, "ms", evaluator="clock", device=CLOCK, spread=0.0421
        ),
    )


def trial(number: int, accuracy: float, flops: float, **more: Any) -> Trial:
    more = {"id": f"{number:08x}", "derivations": {"": "mobile@0 1x8x8: none"}, **more}
    found = measured("digits", accuracy, flops)
    return Trial(number, state="finished", measurements=found, seconds=0.5, **more)


def failed(number: int, reason: str) -> Trial:
    return Trial(number, f"{number:08x}", {"": "mobile@0 1x8x8: none"}, "failed", reason)


def made(
    folder: Path, trials: Iterable[Trial], tasks: tuple[str, ...] = ("digits",), **more: Any
) -> Run:
    settings = Settings.of({"space": "mobile", "tasks": tasks, **more})
    create(folder, settings, Grammar.load("mobile"))
    with Archive.create(folder) as archive:
        for one in trials:
            archive.record(one)
    return load(folder)


TRIALS = [
    trial(0, 0.91, 250e3),
    trial(1, 0.95, 1.69e6),
    trial(2, 0.90, 1e6),
    failed(3, "the loss is NaN"),
]


def read(run: Run) -> Reader:
    return Reader(report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("runs") / "first", TRIALS, limits=("flops=2M",))


@pytest.fixture(scope="module")
def page(run: Run) -> Reader:
    return read(run)


def test_nothing_in_the_page_asks_the_network(page: Reader) -> None:
    loading = {"src", "href", "srcset", "action", "formaction", "poster", "data", "ping"}
    asked = [(tag, value) for tag, name, value in page.attributes if name in loading]
    assert asked == [("link", "data:,")]
    assert not any("http:" in value or "https:" in value for _, _, value in page.attributes)
    assert "url(" not in page.styles
    assert "@import" not in page.styles
    for call in ("fetch(", "XMLHttp", "import(", "WebSocket", "sendBeacon", "http", "open("):
        assert call not in page.own_script


def test_the_browser_is_told_to_refuse_every_request(page: Reader) -> None:
    contents = [value for _, name, value in page.attributes if name == "content"]
    (policy,) = (value for value in contents if "-src" in value)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert all("http" not in rule and "*" not in rule for rule in rules.values())


def test_plotly_is_inlined_once_and_sends_nothing_to_its_makers(page: Reader) -> None:
    assert len(page.scripts) == 3
    assert page.scripts[1].lstrip().startswith("/**\n* plotly.js")
    assert "showSendToCloud: false" in page.own_script
    assert 'plotlyServerURL: ""' in page.own_script


def test_every_trial_of_a_front_is_in_table_figure_and_detail(run: Run, page: Reader) -> None:
    front = [one.id for one in run.front().trials]
    assert front == ["00000001", "00000000"]
    assert [v for tag, name, v in page.attributes if (tag, name) == ("tr", "data-id")] == front
    drawn = page.data["figures"][0]["accuracy flops"]["data"][-1]
    assert sorted(page.data["trials"][i]["id"] for i in drawn["customdata"]) == sorted(front)
    assert page.data["first"] == ["00000001"]


def test_figures_are_short_in_sight_and_exact_in_titles(page: Reader) -> None:
    titles = {value for _, name, value in page.attributes if name == "title"}
    assert {"0.95", "1,690,000 FLOPs", "169,000 parameters", "4.225 ms"} <= titles
    words = {word.strip() for word in page.words}
    assert {"0.9500", "1.69 M", "169 k", "4.22 ms"} <= words
    assert "676 kB" not in words  # a size says what parameters do, and is in the detail
    assert "676 kB" in page.scripts[0]
    assert "4.22 ± 0.04 ms" in json.dumps(page.data, ensure_ascii=False)


def test_the_detail_holds_the_commands_the_cli_takes(run: Run, page: Reader) -> None:
    assert page.data["trials"][1]["commands"] == [
        "nas extract first --id 00000001 --to net",
        "nas retrain net --epochs 20",
    ]
    assert str(run.folder.parent) not in json.dumps(page.data)


def test_the_page_says_how_each_column_was_measured(page: Reader) -> None:
    for words in (
        "validation split",
        "all trials of the run share",
        "600 supernet steps",
        CLOCK,
        "a multiply-add is 2 FLOPs",
        "columns of their own",
    ):
        assert words in page.said
    assert "None has been measured on the test split yet" in page.said


def test_objectives_limits_failures_and_settings_are_said(page: Reader) -> None:
    for aim in ("accuracy larger", "FLOPs smaller", "latency (torch 2.13.0 eager) smaller"):
        assert f"{aim} is better" in page.said
    assert "FLOPs at most 2.00 M" in page.said
    assert "the loss is NaN" in page.said
    assert "3 finished, 1 failed" in page.said
    assert 'sampler = "auto"' in page.said


def test_a_retrained_figure_stands_beside_and_never_instead(tmp_path: Path) -> None:
    run = made(tmp_path / "run", TRIALS)
    with Archive.open(run.folder, write=True) as archive:
        archive.measure({"00000001": [metric("accuracy", 0.9811, "digits", "test", "retrained")]})
    page = read(run)
    heads = [value for tag, name, value in page.attributes if (tag, name) == ("button", "title")]
    assert heads[:2] == ["accuracy", "test_accuracy"]
    words = [word.strip() for word in page.words]
    assert "0.9811" in words
    assert "0.9500" in words
    assert "None has been measured on the test split" not in page.said
    y = page.data["figures"][0]["accuracy flops"]["data"][0]["y"]
    assert y == [0.91, 0.95, 0.90]


def test_what_was_retrained_has_a_front_of_its_own_beside_the_estimates(tmp_path: Path) -> None:
    def after(number: int, accuracy: float, tested: float) -> Trial:
        known = trial(number, accuracy, 1e5 * (number + 1))
        found = metric("accuracy", tested, "digits", "test", "retrained")
        return replace(known, measurements=(*known.measurements, found))

    both = [after(0, 0.90, 0.97), after(1, 0.95, 0.96), trial(2, 0.99, 9e6)]
    page = read(made(tmp_path / "run", both))
    assert "What was retrained, on the test split" in page.said
    assert [front["members"] for front in page.data["fronts"]] == [[2, 1, 0], [0]]
    assert page.data["fronts"][1]["objectives"] == [["test_accuracy", -1], ["flops", 1]]
    limited = read(made(tmp_path / "limited", both, limits=("flops=150k",)))
    assert [front["candidates"] for front in limited.data["fronts"]] == [[0], [0, 1]]
    alone = read(made(tmp_path / "other", [both[0], trial(2, 0.99, 9e6)]))
    assert "What was retrained" not in alone.said


def test_what_was_retrained_is_drawn_however_many_trials_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "DRAWN", 10)
    found = metric("accuracy", 0.5, "digits", "test", "retrained")
    trials = [trial(number, 0.9 - number / 1000, 1e5 + number) for number in range(100)]
    for number in (43, 57):
        known = trials[number]
        trials[number] = replace(known, measurements=(*known.measurements, found))
    data = read(made(tmp_path / "run", trials)).data
    ids = [detail["id"] for detail in data["trials"]]
    assert [ids[i] for i in data["fronts"][1]["members"]] == [f"{43:08x}"]
    assert data["thinned"]


def test_what_is_no_number_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    grammar = Grammar.parse("net = identity output(coarse)\n", name="mobile")
    odd = str(sample(grammar, random.Random(0), input=(1, 8, 8)))
    one = trial(0, 0.9, 1e5, derivations={"": odd})
    spread = Measurement("latency_ms", 0.1, "ms", evaluator="clock", device=CLOCK, spread=math.nan)
    one = replace(one, measurements=(*one.measurements, spread))
    settings = Settings.of({"space": "mobile", "tasks": ("digits",)})
    create(tmp_path / "run", settings, grammar)
    with Archive.create(tmp_path / "run") as archive:
        archive.record(one)
    data = read(load(tmp_path / "run")).data  # which holds no constant that is no JSON
    assert [row[0] for row in data["trials"][0]["network"]["rows"]] == ["heads of the tasks"]


def test_spreads_are_bars_on_the_front(page: Reader) -> None:
    figure = page.data["figures"][0]["accuracy latency_ms"]
    (front,) = [trace for trace in figure["data"] if trace["meta"] == "front"]
    assert set(front["error_x"]["array"]) == {0.0421}
    assert "error_x" not in page.data["figures"][0]["accuracy flops"]["data"][2]


def test_several_tasks_have_a_front_each_with_their_own_columns(tmp_path: Path) -> None:
    tasks = ("scenes-classify", "scenes-segment")
    both = [
        Trial(
            i,
            f"{i:08x}",
            {"": "none"},
            "finished",
            measurements=(
                metric("average_precision", a, tasks[0]),
                *measured(tasks[1], b, 1e6, "mean_iou"),
            ),
        )
        for i, (a, b) in enumerate([(0.3, 0.1), (0.2, 0.2), (0.1, 0.05)])
    ]
    page = read(made(tmp_path / "run", both, tasks))
    for title in ("The front", "The front for scenes-classify", "The front for scenes-segment"):
        assert title in [word.strip() for word in page.words]
    assert page.data["first"] == ["00000000", "00000000", "00000001"]
    assert {name.split()[0] for name in page.data["figures"][0]} == {
        "scenes_classify_average_precision",
        "scenes_segment_mean_iou",
    }
    labels = [label for label, _, _ in page.data["trials"][0]["columns"]]
    assert labels[:2] == ["scenes-classify average precision", "scenes-segment mean IoU"]
    assert len(labels) == len(set(labels)) == 6


def test_hostile_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    definition = tmp_path / "own.toml"
    shipped = (Path(__file__).parents[2] / "tasks" / "digits.toml").read_text(encoding="utf-8")
    title = next(line for line in shipped.splitlines() if line.startswith("title"))
    own = shipped.replace(title, f"title = {json.dumps(HOSTILE)}")
    definition.write_text(own, encoding="utf-8")
    trials = [
        trial(0, 0.9, 1e6, derivations={HOSTILE: HOSTILE}),
        Trial(1, "b", {"": HOSTILE}, "failed", HOSTILE),
    ]
    settings = Settings.of({"space": f"./{HOSTILE}.grammar", "tasks": (str(definition),)})
    folder = tmp_path / HOSTILE.replace("/", "")
    create(folder, settings, Grammar.load("mobile"))
    with Archive.create(folder) as archive:
        for one in trials:
            archive.record(one)
    page = read(load(folder))
    assert not any(name == "onclick" for _, name, _ in page.attributes)
    assert "b" not in {tag for tag, _, _ in page.attributes}
    assert "49" not in page.said
    assert page.data["trials"][0]["derivations"] == [[HOSTILE, HOSTILE]]
    assert page.said.count(HOSTILE) >= 2  # title, reason


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([], "No trial has finished yet."),
        ([failed(0, "no"), failed(1, "")], "all that were tried failed"),
        ([trial(0, 0.9, 1e6)], "1 of 1 finished trials"),
        ([trial(0, 0.9, 0.0)], "1 of 1 finished trials"),
        ([trial(0, math.nan, 1e6)], "No trial is on it"),
        ([trial(0, 0.9, math.inf), trial(1, 0.8, 1e6)], "2 of 2 finished trials"),
    ],
    ids=["none", "only failed", "one", "costs nothing", "not a number", "infinite"],
)
def test_any_run_has_a_page(tmp_path: Path, trials: list[Trial], says: str) -> None:
    page = read(made(tmp_path / "run", trials))
    assert says in page.said
    assert page.data["trials"] is not None


def test_a_limit_that_no_trial_keeps_is_said(tmp_path: Path) -> None:
    page = read(made(tmp_path / "run", TRIALS, limits=("flops=1k",)))
    assert "none of 3 finished ones" in page.said
    assert "keeps the limits" in page.said
    assert page.data["figures"][0]["accuracy flops"]["layout"]["shapes"][0]["x0"] == 1000


def test_operators_are_spelled_out_for_derivations_of_the_space(tmp_path: Path) -> None:
    import random

    from nas.grammar import sample

    derivation = sample(Grammar.load("mobile"), random.Random(0), input=(1, 8, 8))
    page = read(made(tmp_path / "run", [trial(0, 0.9, 1e6, derivations={"": str(derivation)})]))
    assert page.data["trials"][0]["operators"] == [derivation.network_text]


def test_a_page_is_written_whole_or_not_at_all(run: Run, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "new" / "page.html"
    assert report(run, path) == path
    before = path.read_bytes()

    def torn(self: Path, data: bytes) -> int:
        self.write_text(data[:100].decode())
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="no space"):
        report(run, path)
    monkeypatch.undo()
    monkeypatch.setattr(page_module, "render", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report(run, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_of_many_trials_the_fronts_and_an_even_part_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of 50,000 would be 48 MB."""
    monkeypatch.setattr("nas.report.page.DRAWN", 10)
    trials = [trial(i, 0.5 + i / 400, 1e6 + 1e4 * ((7 * i) % 100)) for i in range(100)]
    many = made(tmp_path / "run", trials)
    page = read(many)
    front = {one.id for one in many.front().trials}
    drawn = {one["id"] for one in page.data["trials"] if one}
    assert front <= drawn
    assert len(front) + 5 <= len(drawn) <= len(front) + 10
    assert "of 100 finished trials" in page.said
    assert f"Drawn are {len(drawn)} of them." in page.said


def test_the_default_place_is_the_runs_folder(run: Run) -> None:
    assert report(run) == run.folder / "report.html"


def test_the_same_run_gives_the_same_page(run: Run) -> None:
    assert render(run) == render(run)
