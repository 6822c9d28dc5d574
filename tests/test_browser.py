"""The page in headless Chromium: what a visitor sees and does.

LLPACK_CHROMIUM names the browser to use; LLPACK_SCREENSHOTS a folder to keep screenshots in.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
from gradio.route_utils import delete_files_created_by_app
from PIL import Image

from llpack.metadata import read_exif
from tests.tiny_demo import served, write_dark

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
WAIT_MS = 30_000
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
        found = os.environ.get("LLPACK_CHROMIUM") or shutil.which("chromium")
        if not found and not os.path.exists(own):
            pytest.skip("no Chromium: install Debian's chromium or set LLPACK_CHROMIUM")
        browser = driver.chromium.launch(executable_path=found or own, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with served(tmp_path_factory.mktemp("browser")) as demo:
        yield demo


class Visitor:
    """A tab, with what it complained about and whom it talked to."""

    def __init__(self, browser, url: str, size=DESKTOP, theme: str = "light"):
        self.context = browser.new_context(viewport=size, color_scheme=theme)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(WAIT_MS)
        self.complaints, self.hosts = [], set()
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        self.tab.goto(url)
        self.wait_for("restored by the network")

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def wait_for(self, text: str, place: str = ".llpack-caption") -> None:
        self.tab.wait_for_function(
            "([place, text]) => document.querySelector(place)?.innerText.includes(text)",
            arg=[place, text],
        )

    def wait_for_picture(self, name: str) -> None:
        """Until the right side is loaded from a file of this name."""
        self.tab.wait_for_function(
            """name => [...document.querySelectorAll('#compare img')].some(
                image => image.src.includes(name) && image.naturalWidth > 0)""",
            arg=name,
        )

    def sources(self) -> list[str]:
        images = self.tab.locator("#compare img").all()
        return [image.get_attribute("src") for image in images]

    def upload(self, path: Path) -> None:
        self.tab.get_by_role("button", name="Clear").first.click()
        self.tab.locator("#source input[type=file]").first.wait_for(state="attached")
        self.tab.set_input_files("#source input[type=file]", path)

    def keep_screenshot(self, name: str) -> None:
        if folder := os.environ.get("LLPACK_SCREENSHOTS"):
            self.tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture
def visitor(browser, demo):
    visitor = Visitor(browser, demo.url)
    yield visitor
    complaints, hosts = visitor.complaints, visitor.hosts
    visitor.context.close()
    assert complaints == []
    assert hosts <= {"127.0.0.1", None, ""}


def test_a_pair_is_there_at_once_and_described(visitor):
    visitor.wait_for_picture("first_llpack")
    for image in visitor.tab.locator("#compare img").all():
        assert "restored by the network" in image.get_attribute("alt")
    visitor.keep_screenshot("first")


def test_after_quick_choices_the_picture_is_that_of_the_file(visitor):
    for _ in range(3):
        visitor.tab.get_by_text("The first").click()
        visitor.tab.get_by_text("The second").click()
    visitor.tab.wait_for_timeout(4000)
    chosen = visitor.tab.inner_text("#source .file-preview").split()[0]  # the ending has its own line
    visitor.wait_for_picture(f"{chosen}_llpack")


def test_an_upload_is_read_and_restored(visitor, tmp_path):
    visitor.upload(write_dark(tmp_path / "mine.dng", seed=3, size=(256, 160), orientation=6))
    visitor.wait_for_picture("mine_llpack")
    assert "160 x 256" in visitor.tab.inner_text("body")
    visitor.wait_for("estimated", ".llpack-factor")


def test_an_example_takes_one_click_also_after_a_sweep(visitor, demo):
    delete_files_created_by_app(demo.demo, age=-1)
    visitor.tab.get_by_text("The second").click()
    visitor.wait_for_picture("second_llpack")


def test_the_slider_previews_and_restores_on_release(visitor):
    before = visitor.sources()
    knob = visitor.tab.locator("#stops input[type=range]")
    box = knob.bounding_box()
    middle = box["y"] + box["height"] / 2
    visitor.tab.mouse.move(box["x"] + box["width"] * 0.45, middle)
    visitor.tab.mouse.down()
    visitor.tab.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    visitor.wait_for("Preview.")
    visitor.tab.mouse.up()
    visitor.tab.wait_for_function(
        "() => !document.querySelector('.llpack-caption')?.innerText.includes('Preview.')"
    )
    visitor.wait_for("chosen", ".llpack-factor")
    assert not set(before) & set(visitor.sources())


def test_the_slider_works_from_the_keyboard_and_auto_undoes_it(visitor):
    visitor.tab.locator("#stops input[type=range]").press("End")
    visitor.wait_for_picture("first_llpack_x1000.jpg")
    visitor.wait_for("x 1000, chosen", ".llpack-factor")
    visitor.tab.get_by_role("button", name="Auto").press("Enter")
    visitor.wait_for("estimated", ".llpack-factor")


def test_the_left_side_shows_the_dark_file_beside_the_same_picture(visitor):
    after = visitor.sources()[1]
    visitor.tab.get_by_text("The dark file as it is").click()
    visitor.wait_for("Left: the dark file as it is")
    visitor.wait_for_picture("first_plain_x1.jpg")
    assert visitor.sources()[1] == after


def test_buttons_move_the_divider(visitor):
    places = []
    for name in ("Before", "After"):
        visitor.tab.get_by_role("button", name=name, exact=True).press("Enter")
        visitor.tab.wait_for_timeout(800)
        places.append(visitor.tab.locator("#compare").screenshot())
    assert places[0] != places[1]


def test_downloads_take_one_click_each(visitor, tmp_path):
    with visitor.tab.expect_download() as jpeg:
        visitor.tab.get_by_text("Download JPEG").click()
    assert jpeg.value.suggested_filename.startswith("first_llpack_x")
    with visitor.tab.expect_download() as tiff:
        visitor.tab.get_by_text("Download 16-bit TIFF").click()
    path = tmp_path / tiff.value.suggested_filename
    tiff.value.save_as(path)
    assert path.suffix == ".tiff" and tifffile.imread(path).dtype == np.uint16
    exif = read_exif(path)
    assert (exif.camera, exif.iso) == ("Acme One", 3200)
    with Image.open(jpeg.value.path()) as picture:
        assert picture.size == tifffile.imread(path).shape[1::-1]


def test_a_broken_file_clears_the_page_and_says_why(visitor, tmp_path):
    name = "<img src=x onerror=alert(1)>.dng"
    broken = tmp_path / name
    broken.write_bytes(b"II*\0nothing")
    visitor.tab.on("dialog", lambda dialog: visitor.complaints.append(dialog.message))
    visitor.upload(broken)
    message = visitor.tab.locator(".toast-body")
    message.wait_for()
    assert message.count() == 1 and ".dng" in message.inner_text()
    assert visitor.tab.locator("#compare img").count() == 0
    assert visitor.tab.locator(".llpack-table").count() == 0
    assert visitor.tab.get_by_text("Download 16-bit TIFF").is_disabled()
    visitor.keep_screenshot("error")
    visitor.tab.get_by_text("The second").click()
    visitor.wait_for_picture("second_llpack")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(browser, demo, theme):
    visitor = Visitor(browser, demo.url, PHONE, theme)
    visitor.wait_for_picture("first_llpack")
    assert visitor.tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tops = [
        visitor.tab.locator(place).first.bounding_box()["y"]
        for place in ("#source", "#compare", "#stops", ".llpack-table")
    ]
    assert tops == sorted(tops)
    visitor.keep_screenshot(f"phone-{theme}")
    visitor.context.close()
    assert visitor.complaints == []
