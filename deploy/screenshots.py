"""Pictures of the web page for the documentation: `make screenshots URL=http://127.0.0.1:8080`.

Everything in them is what the running service says; with `make demo` up it is the demo. The pages are
used as a person would: questions are asked on Playground first, so that Compare has something to show.
Compare shows a canary between the two models, on an alias of its own that is gone afterwards.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from deploy.canary import QUESTIONS, canary, served_pair
from deploy.chromium import browser
from service.client import GatewayClient
from service.errors import ServiceError

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"
MAX_BYTES = 200_000
PATIENCE_MS = 180_000.0
WIDE, PHONE = (1280, 860), (360, 740)


def main() -> None:
    """Drive the pages of a service and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument(
        "--key",
        default=os.environ.get("INFOPRUNE_API_KEY"),
        help="an admin's API key, where the gateway asks for one; by default INFOPRUNE_API_KEY",
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=4, help="how often the questions are asked")
    args = parser.parse_args()
    try:
        with browser() as opened:
            camera = Camera(opened, args.url.rstrip("/"), args.key, args.out)
            take_all(camera, rounds=args.rounds)
    except (ServiceError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error


def take_all(camera: Camera, *, rounds: int) -> None:
    """Write every picture.

    Raises:
        ServiceError: the service cannot be reached, refuses the key, or lacks the two models.
    """
    client = GatewayClient(camera.url, api_key=camera.key)
    pair, picture = served_pair(client), unseen_picture()
    use = partial(ask, picture=picture, rounds=rounds)
    camera.take(f"playground?compressed={pair.compressed}", "playground", use)
    with canary(client, pair, picture) as alias:
        compare = f"compare?of=alias%3A{alias}"
        camera.take(compare, "compare", settle)
        camera.take(compare, "compare-dark", settle, scheme="dark")
        camera.take(compare, "compare-phone", settle, size=PHONE)
        camera.take("models", "models", see_lineage)
    camera.take("compress", "compress", check)


def unseen_picture() -> Path:
    """A picture that neither model has seen."""
    import easy_vqa

    return Path(next(iter(easy_vqa.get_test_image_paths().values())))


class Camera:
    """Takes one picture after another, each in a window of its own."""

    def __init__(self, opened: Browser, url: str, key: str | None, out: Path) -> None:
        self._browser, self.url, self.key, self._out = opened, url, key, out
        out.mkdir(parents=True, exist_ok=True)

    def take(
        self,
        path: str,
        name: str,
        use: Callable[[Page], object],
        *,
        scheme: str = "light",
        size: tuple[int, int] = WIDE,
    ) -> None:
        """Open a page, use it, and write what is seen."""
        context = self._browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": size[0], "height": size[1]},
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{self.url}/ui/{path}")
        if self.key is not None:
            page.get_by_label("API key").fill(self.key)
            page.keyboard.press("Enter")
        use(page)
        page.evaluate("() => scrollTo(0, 0)")  # the head stays at the top of what is seen
        content = small(page.screenshot(full_page=size == WIDE))
        (self._out / f"{name}.png").write_bytes(content)
        print(f"{name}.png: {len(content)} bytes")
        context.close()


def ask(page: Page, picture: Path, rounds: int) -> None:
    """Ask both models about a picture, again and again."""
    page.get_by_label("Picture").set_input_files(picture)
    first, second = page.get_by_label("First model"), page.get_by_label("Second model")
    pair = (first.input_value(), second.input_value())
    second.select_option("")
    # One after another: on one machine two models that answer at once slow each other.
    for question in QUESTIONS * rounds:
        page.get_by_label("Question").fill(question)
        for model in pair:
            first.select_option(model)
            page.get_by_role("button", name="Ask").click()
            expect(
                page.get_by_role("region", name=f"Answer of {model}", exact=True)
            ).to_be_visible()
            expect(page.locator("[aria-busy=true]")).to_have_count(0)
    first.select_option(pair[0])
    second.select_option(pair[1])
    page.get_by_role("button", name="Ask both").click()
    expect(page.get_by_role("status")).to_contain_text("answers")


def settle(page: Page) -> None:
    """Wait for the roll-out, its numbers and curves."""
    expect(page.get_by_role("heading", name="Roll-out of")).to_be_visible()
    expect(page.get_by_role("region", name="Headline")).to_contain_text("pairs")
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    expect(page.locator("ip-chart canvas")).to_have_count(4)
    page.wait_for_timeout(1000)


def see_lineage(page: Page) -> None:
    """Wait for the models."""
    expect(page.get_by_role("heading", name="Lineage")).to_be_visible()


def check(page: Page) -> None:
    """Choose a preset, and let the form say what it would do."""
    page.get_by_label("Preset").select_option(index=1)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("would be compressed")).to_be_visible()


def small(png: bytes) -> bytes:
    """The same picture with as many colours as keep it under the limit."""
    for colours in (256, 128, 64, 32):
        out = io.BytesIO()
        with Image.open(io.BytesIO(png)) as image:
            image.convert("RGB").quantize(colours).save(out, "PNG", optimize=True)
        if out.tell() <= MAX_BYTES:
            break
    return out.getvalue()


if __name__ == "__main__":
    main()
