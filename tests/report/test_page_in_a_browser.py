"""Claims about the page as a browser shows it; skipped where no Chromium is installed."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from nas.archive import Archive, Measurement, Trial
from nas.grammar import Grammar, sample
from nas.plan import plan
from nas.report import report
from nas.report.blocks import blocks_of
from nas.search import Run, Settings, load
from nas.search.folder import create

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is here")

Browse = Callable[..., Any]
LIMIT = "flops=3M"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "first"
    grammar, rng = Grammar.load("mobile"), random.Random(0)
    settings = Settings.of(
        {
            "space": "mobile",
            "tasks": ("digits",),
            "limits": (LIMIT,),
            "objectives": ("accuracy", "flops"),
        }
    )
    create(folder, settings, grammar)
    with Archive.create(folder) as archive:
        for number in range(60):
            derivation = sample(grammar, rng, input=(1, 8, 8))
            planned = plan(derivation)
            figures = (
                Measurement("accuracy", rng.random(), "fraction", "digits", "valid", "shared", 1),
                Measurement("macro_f1", rng.random(), "fraction", "digits", "valid", "shared", 1),
                Measurement("flops", float(planned.flops), "FLOPs", evaluator="arithmetic"),
                Measurement("params", float(planned.params), "parameters", evaluator="arithmetic"),
            )
            archive.record(
                Trial(
                    number, f"{number:08x}", {"": str(derivation)}, "finished", measurements=figures
                )
            )
    return load(folder)


@pytest.fixture(scope="module")
def browse(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Browse:
    folder = tmp_path_factory.mktemp("browser")
    text = report(run, folder / "page.html").read_text(encoding="utf-8")

    def browsed(script: str, width: int = 1100) -> Any:
        """What a script gives that is run on the page once it stands."""
        whole = (
            '<pre id="outcome"></pre><script>addEventListener("load", () => setTimeout(() => {'
            'const outcome = document.getElementById("outcome"), look = (s) => '
            "[...document.querySelectorAll(s)];"
            f"try {{ outcome.textContent = JSON.stringify((() => {{ {script} }})()); }}"
            "catch (error) { outcome.textContent = JSON.stringify(String(error)); } }, 500));"
            "</script></body>"
        )
        page = folder / "browsed.html"
        page.write_text(text.replace("</body>", whole), encoding="utf-8")
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        words += [f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}"]
        words += ["--virtual-time-budget=20000", page.as_uri()]
        for _ in range(3):  # on a busy machine it may end before the page stands
            shown = subprocess.run(words, capture_output=True, text=True, timeout=120)
            found = re.search(r'<pre id="outcome">(.+?)</pre>', shown.stdout, re.DOTALL)
            if found:
                return json.loads(unescape(found[1]))
        raise AssertionError(shown.stderr[-2000:])

    return browsed


def test_a_click_shows_the_network_its_blocks_and_the_commands(run: Run, browse: Browse) -> None:
    member = run.front().trials[-1]
    seen = browse(
        f"look('tr[data-id=\"{member.id}\"] button')[0].click();"
        "return {title: look('.detail h3')[0].textContent, boxes: look('.picture rect').length,"
        "rows: look('.detail tbody tr').length, commands: look('.detail .command')"
        ".map(e => e.textContent), asked: performance.getEntriesByType('resource').length}"
    )
    blocks = blocks_of(plan(run.derivation(member.id)))
    assert seen["title"].startswith(member.id)
    assert (seen["boxes"], seen["rows"]) == (len(blocks) + 1, len(blocks))
    assert any(f"nas extract {run.folder.name} --id {member.id}" in c for c in seen["commands"])
    assert seen["asked"] == 0


def test_a_click_on_a_point_that_is_not_on_the_front_shows_it_too(run: Run, browse: Browse) -> None:
    chosen = {trial.id for trial in run.front().trials}
    number = next(trial.number for trial in run.trials if trial.id not in chosen)
    title = browse(
        f"look('.plot')[0].emit('plotly_click', {{points: [{{customdata: {number}}}]}});"
        "return look('.detail h3')[0].textContent"
    )
    assert title.startswith(f"{number:08x}")


def test_two_networks_stand_beside_each_other_with_what_differs_marked(browse: Browse) -> None:
    seen = browse(
        "look('.hold')[0].click(); look('tr[data-id] button')[2].click();"
        "const both = look('.detail article'); const text = a => [...a.querySelectorAll('pre')]"
        ".at(-1); return both.map(a => [a.querySelector('h3').textContent, "
        "a.querySelectorAll('dd mark').length, text(a).querySelectorAll('mark').length, "
        "text(a).textContent])"
    )
    assert len(seen) == 2
    assert seen[0][0] != seen[1][0]
    assert all(figures and words for _, figures, words, _ in seen)


def test_a_limit_moved_by_the_slider_draws_the_front_there_is_within_it(
    run: Run, browse: Browse
) -> None:
    params = sorted({trial.columns()["params"] for trial in run.trials})
    largest = max(trial.columns()["params"] for trial in run.front().trials)
    seen = browse(
        "const slider = look('[name=most]')[0], x = look('[name=x][value=params]')[0];"
        f"x.click(); slider.value = {params.index(largest) - 1};"
        "slider.dispatchEvent(new Event('input', {bubbles: true}));"
        "const front = look('.plot')[0].data.find(t => t.meta === 'front');"
        "return {ids: front.customdata, xs: front.x, said: look('.most output')[0].textContent,"
        "bound: look('.plot')[0].layout.shapes.at(-1).x0}"
    )
    kept = [
        trial
        for trial in run.trials
        if trial.columns()["params"] <= seen["bound"] and trial.columns()["flops"] <= 3e6
    ]
    wanted = {
        trial.number
        for trial in kept
        if not any(
            other.columns()["accuracy"] >= trial.columns()["accuracy"]
            and other.columns()["flops"] <= trial.columns()["flops"]
            and other.columns() != trial.columns()
            for other in kept
        )
    }
    assert set(seen["ids"]) == wanted
    assert wanted != {trial.number for trial in run.front().trials}
    assert f"{len(wanted)} on the front" in seen["said"]


def test_any_column_is_an_axis(run: Run, browse: Browse) -> None:
    xs, title = browse(
        "const other = look('[name=other_x]')[0]; other.value = 'macro_f1';"
        "other.dispatchEvent(new Event('change', {bubbles: true}));"
        "const plot = look('.plot')[0]; return [plot.data[0].x, plot.layout.xaxis.title.text]"
    )
    assert xs == pytest.approx([trial.columns()["macro_f1"] for trial in run.trials])
    assert title == "macro f1"


def test_a_telephone_shows_it_without_scrolling_sideways(browse: Browse) -> None:
    # the window of a headless browser is at least 500 wide, so the page is narrowed within it
    wider = browse(
        "Object.assign(document.body.style, {maxWidth: '390px', margin: 0});"
        "const wide = e => e.getBoundingClientRect().right > 390;"
        "return look('body > *, section > *, .detail > *').filter(wide).map(e => e.outerHTML)",
        width=500,
    )
    assert wider == []
