"""Compress: a real job from the form to its report, one that is cancelled, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FrameLocator, Page, expect
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from service.jobs.runner import original_entry
from service.registry import Registry
from service.settings import Settings
from tests.browser.conftest import ORIGINAL, Watched
from tests.conftest import FACTOR
from tests.support.random_vlm import write_random_llava
from tests.support.servers import running

JOB_MS = 240_000 * FACTOR
"""A job of a model this small takes half a minute where nothing else runs."""
DRAWN = """figure => {
  const width = each => each.getBoundingClientRect().width;
  const count = (query, holds) => [...figure.querySelectorAll(query)]
    .filter(each => holds(getComputedStyle(each), width(each))).length;
  return {
    width: width(figure.querySelector("svg")),
    curves: count("path[clip-path]", (style, wide) => style.stroke !== "none" && wide > 50),
    dots: count("use", (style, wide) => style.fill === "rgb(255, 59, 48)" && wide > 0),
  };
}"""
"""What a spectrum shows: curves that are as wide as the axes, and dots in the colour of what is cut."""
RANKS = """details => {
  const [head, ...rows] = [...details.querySelectorAll("tr")].map(row => [...row.cells]);
  const at = head.flatMap((cell, i) => cell.textContent.startsWith("rank of") ? [i] : []);
  return rows.flatMap(row => at.map(i => row[i].textContent)).filter(text => text !== "dense").length;
}"""
"""How many ranks the numbers of each layer have."""
MARK = """(log, line) => {
  const found = [...log.childNodes].find(each => each.data === `${line}\\n`);
  getSelection().setBaseAndExtent(found, 0, found, line.length);
  log.scrollTop = 300;
}"""
"""Marks a line of a log, as one does who copies it, and scrolls."""


@pytest.fixture
def runner(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[None]:
    """A job runner, and a small original `tiny` for it."""
    write_random_llava(tmp_path / "tiny", kv_heads=4)
    Registry(redis).put_model(original_entry("tiny", tmp_path / "tiny"))
    environment = settings.to_environment(settings.require_redis_url())
    with running("service.jobs", log=tmp_path / "jobs.log", env=environment):
        yield


def fill(page: Page, model: str) -> None:
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_label("Share of FLOPs to keep").fill("0.5")
    page.get_by_role("group", name="Calibrate on").get_by_role("spinbutton").fill("16")
    page.get_by_role("group", name="Evaluate on").get_by_role("spinbutton").fill("8")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Ranks and widths, multiples of").fill("4")


def read_spectra(report: FrameLocator) -> None:
    """Spectra with a curve of each layer, and a dot for every rank that the plan chose."""
    dots = ranks = 0
    for tower in ("Vision tower", "Projector", "Language model"):
        spectra = report.get_by_role("img", name=f"{tower}: Whitened spectrum of")
        expect(spectra.first).to_be_visible()
        for spectrum in spectra.all():
            drawn = spectrum.evaluate(DRAWN)
            assert drawn["width"] > 200, tower
            assert drawn["curves"] >= (1 if tower == "Projector" else 2), tower
            dots += drawn["dots"]
    for details in report.locator("details").all():
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        ranks += details.evaluate(RANKS)
    assert dots == ranks > 0


@pytest.mark.timeout(600 * FACTOR)
@pytest.mark.usefixtures("runner")
def test_a_job_is_checked_started_watched_and_its_report_read(web: Watched) -> None:
    page = web.go("compress")
    fill(page, "tiny")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("tiny would be compressed to 50 % of its FLOPs")).to_be_visible()
    expect(page.get_by_text("No job yet")).to_be_visible()

    page.get_by_role("button", name="Start").click()
    job = page.get_by_role("region", name="tiny-flops0.5")
    expect(job.get_by_role("list", name="Stages")).to_contain_text("calibrate")
    expect(job.get_by_text("finished", exact=True)).to_be_visible(timeout=JOB_MS)
    expect(job.get_by_role("row", name="FLOPs before the first token")).to_contain_text("0.5")
    job.get_by_text("Log,").click()
    expect(job).to_contain_text("finished: tiny-flops0.5")

    job.get_by_role("button", name="Show report").click()
    report = page.frame_locator("iframe[title='Report of tiny-flops0.5']")
    expect(report.get_by_role("heading", name="tiny, compressed by InfoPrune")).to_be_visible()
    expect(report.get_by_role("img", name="Vision tower: Scores of heads")).to_be_visible()
    read_spectra(report)
    assert report.get_by_role("heading").first.evaluate("() => origin") == "null"

    page.get_by_role("link", name="Models").click()
    card = page.get_by_role("article", name="tiny-flops0.5")
    card.get_by_role("button", name="Report").click()
    shown = page.frame_locator("iframe[title='Report of tiny-flops0.5']")
    expect(shown.get_by_role("heading", name="Accuracy")).to_be_visible()


def test_what_is_rarely_changed_reaches_the_job(web: Watched, redis: Redis) -> None:
    page = web.go("compress")
    fill(page, ORIGINAL)
    page.get_by_label("Factor attention too").uncheck()
    page.get_by_label("Allocation").select_option("exact")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("region", name=f"{ORIGINAL}-flops0.5")).to_be_visible()
    [job] = JobQueue(redis, job_timeout_s=60).list()
    assert job.recipe["low_rank_attention"] is False
    assert job.recipe["allocation"] == "exact"


def test_a_waiting_job_is_cancelled_after_a_confirmation(web: Watched) -> None:
    page = web.go("compress")
    fill(page, ORIGINAL)
    page.get_by_role("button", name="Start").click()
    job = page.get_by_role("region", name=f"{ORIGINAL}-flops0.5")
    expect(job).to_contain_text("Waits for a runner.")
    job.get_by_role("button", name="Cancel…").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(job.get_by_text("cancelled", exact=True)).to_be_visible()
    expect(job.get_by_role("button", name="Cancel…")).to_have_count(0)
    row = page.get_by_role("region", name="Jobs").get_by_role("row", name=f"{ORIGINAL}-flops0.5")
    expect(row).to_contain_text("cancelled")


def test_the_log_of_a_running_job_grows_where_it_is_read(web: Watched, redis: Redis) -> None:
    records = JobRecords(redis)
    job, _ = records.create(ORIGINAL, "half", {"flops": 0.5})
    token = records.claim(job.id)
    assert token is not None
    for line in range(100):
        records.log(job.id, f"line {line}")
    records.progress(job.id, token, "score", 20.0)
    page = web.go(f"compress?job={job.id}")
    page.get_by_text("Log, 100 lines").click()
    log = page.get_by_text("line 99")
    log.focus()
    log.evaluate(MARK, "line 50")

    records.log(job.id, "a line within a stage")
    expect(log).to_contain_text("a line within a stage")
    records.log(job.id, "stage prune")
    records.progress(job.id, token, "prune", 40.0)
    expect(log).to_contain_text("stage prune")
    expect(page.get_by_text("prune, 40 %").first).to_be_visible()
    assert log.evaluate("log => log.scrollTop") == 300
    expect(log).to_be_focused()
    assert page.evaluate("() => String(getSelection())") == "line 50"

    page.get_by_text("Log, 102 lines").click()
    records.log(job.id, "stage heal")
    records.progress(job.id, token, "heal", 60.0)
    expect(page.get_by_text("Log, 103 lines")).to_be_visible()
    records.log(job.id, "the last line")
    records.end(job.id, "failed", token=token, error="The disk is full.")
    expect(page.get_by_text("Log, 104 lines")).to_be_visible()


def test_a_recipe_that_makes_no_sense_is_refused_in_one_sentence(web: Watched) -> None:
    page = web.go("compress")
    for name in ("vision tower", "projector", "language model"):
        page.get_by_label(name).uncheck()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The recipe's scope leaves nothing to compress; switch a tower on."
    )
    web.expect_fault("400")


def test_the_field_says_what_the_chosen_target_means(web: Watched) -> None:
    page = web.go("compress")
    page.get_by_label("Target").select_option("max_accuracy_drop")
    expect(page.get_by_label("Accuracy that may be lost")).to_have_value("0.005")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("loses at most 0.5 points of accuracy")).to_be_visible()


def test_a_report_that_is_not_there_is_told(web: Watched, redis: Redis) -> None:
    del redis
    page = web.go("models")
    page.get_by_role("article").nth(1).get_by_role("button", name="Report").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no report of the model")
    web.expect_fault("404")
