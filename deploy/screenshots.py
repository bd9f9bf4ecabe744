"""Pictures of the web page for the documentation: `make screenshots URL=http://127.0.0.1:8080`.

Everything in them is what the running service says; with `make demo` up it is the demo. The pages are
used as a person would: questions are asked on Playground first, so that Compare has something to show.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from deploy.chromium import browser

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"
MAX_BYTES = 200_000
PATIENCE_MS = 180_000.0
QUESTIONS = ("what color is the shape?", "what shape is present?", "is there a red shape?")
WIDE, PHONE = (1280, 860), (360, 740)


def main() -> None:
    """Drive the pages of a service and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", help="an API key, where the gateway asks for one")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=4, help="how often the questions are asked")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with browser() as opened:
        camera = Camera(opened, args.url.rstrip("/"), args.key, args.out)
        camera.take("playground", "playground", partial(ask, rounds=args.rounds))
        camera.take("compare", "compare", settle)
        camera.take("compare", "compare-dark", settle, scheme="dark")
        camera.take("compare", "compare-phone", settle, size=PHONE)
        camera.take("compress", "compress", check)
        camera.take("models", "models", see_lineage)


class Camera:
    """Takes one picture after another, each in a window of its own."""

    def __init__(self, opened: Browser, url: str, key: str | None, out: Path) -> None:
        self._browser, self._url, self._key, self._out = opened, url, key, out

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
        page.goto(f"{self._url}/ui/{path}")
        if self._key is not None:
            page.get_by_label("API key").fill(self._key)
            page.keyboard.press("Enter")
        use(page)
        content = small(page.screenshot(full_page=size == WIDE))
        (self._out / f"{name}.png").write_bytes(content)
        print(f"{name}.png: {len(content)} bytes")
        context.close()


def ask(page: Page, rounds: int) -> None:
    """Ask about a picture that neither model has seen."""
    import easy_vqa

    path = next(iter(easy_vqa.get_test_image_paths().values()))
    page.get_by_label("Picture").set_input_files(path)
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
    """Wait for numbers and curves."""
    expect(page.get_by_role("heading", name="Numbers")).to_be_visible()
    expect(page.locator("ip-chart canvas")).to_have_count(4)
    page.wait_for_timeout(1000)


def see_lineage(page: Page) -> None:
    """Wait for the models."""
    expect(page.get_by_role("heading", name="Lineage")).to_be_visible()


def check(page: Page) -> None:
    """Let the form say what it would do."""
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
