"""The page without a browser: handlers, wiring, the endpoints for programs, and what is refused."""

import asyncio
import importlib.util
import os
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
import tifffile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from llpack import housekeeping
from llpack.page import AMPLIFIED, MOST_STOPS, UNTOUCHED, Page, describe, to_stops
from tests.tiny_demo import served, tiny_darkroom, write_dark

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with served(tmp_path_factory.mktemp("demo"), max_file_size="2mb") as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo):
    client = Client(demo.url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture
def page(demo):
    return Page(demo.darkroom)


@pytest.fixture
def dark(tmp_path):
    return str(write_dark(tmp_path / "dark.dng", seed=7))


# --- handlers ---


def test_opening_a_file_tells_what_was_read_and_the_estimate(page, dark):
    read, stops, factor = page.open(dark)
    assert "Acme One" in read and "192 x 128" in read
    assert stops == to_stops(page.darkroom.estimate(dark))
    assert "estimated" in factor


def test_a_slider_that_stands_on_the_estimate_means_the_estimate(page, dark):
    _, stops, _ = page.open(dark)
    runtime = page.restore(dark, stops, AMPLIFIED)[3]
    assert "(estimated)" in runtime
    elsewhere = stops - 1 if stops >= 1 else stops + 1
    *_, factor, runtime = page.restore(dark, elsewhere, AMPLIFIED)[:4]
    assert "(chosen)" in runtime and "chosen" in factor
    assert "estimated" in page.auto(dark)[1]


def test_the_slider_reaches_exactly_x1000(page, dark):
    assert "x1000 (chosen)" in page.restore(dark, MOST_STOPS, AMPLIFIED)[3]
    assert describe(1000.0, "chosen").count("x 1000") == 1


@pytest.mark.parametrize("factor", [1, 2.3, 226.46, 1000])
def test_the_slider_moves_in_twentieths_of_a_stop(factor):
    stops = to_stops(factor)
    assert abs(stops * 20 - round(stops * 20)) < 1e-9
    assert abs(stops - np.log2(factor)) <= 0.0251


def test_switching_the_left_side_keeps_the_right_one(page, dark):
    pair, *_, after = page.restore(dark, 6.0, AMPLIFIED)
    (before, same), caption = page.swap_left(dark, 6.0, UNTOUCHED, after)
    assert same == after == pair[1]
    assert before != pair[0] and "the dark file as it is" in caption


def test_a_deleted_result_is_explained(page, dark, tmp_path):
    with pytest.raises(gr.Error, match="has been deleted"):
        page.swap_left(dark, 6.0, UNTOUCHED, str(tmp_path / "gone.jpg"))


def test_the_preview_has_no_more_pixels_than_the_picture(page, dark):
    (before, after), caption, factor = page.preview(dark, 5.0, AMPLIFIED)
    assert Image.open(before).size == Image.open(after).size
    assert "Preview." in caption and "x 32" in factor


def test_without_a_file_nothing_is_left_or_a_sentence_is_said(page):
    assert page.restore_opened(None, 5, AMPLIFIED)[0] is None
    assert page.clear()[0] == "" and page.clear()[1:] == page.clear_result()
    for call in (
        lambda: page.restore(None, 5, AMPLIFIED),
        lambda: page.auto(None),
        lambda: page.tiff(None, 5),
    ):
        with pytest.raises(gr.Error, match="Upload a RAW file first"):
            call()


def test_names_and_metadata_stay_text(page, tmp_path):
    script = "<script>alert(1)</script>"
    read, _, _ = page.open(str(write_dark(tmp_path / f"{HOSTILE}.dng", lens=script)))
    assert "<script" not in read and "&lt;script&gt;" in read
    broken = tmp_path / f"{HOSTILE}.dng"
    broken.write_bytes(b"II*\0nothing")
    page.darkroom.forget(-1)
    with pytest.raises(gr.Error) as caught:
        page.open(str(broken))
    assert "<img" not in caught.value.message and "&lt;img" in caught.value.message


def test_errors_name_no_folder(page, tmp_path):
    broken = tmp_path / "broken.arw"
    broken.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(gr.Error) as caught:
        page.open(str(broken))
    assert str(tmp_path) not in caught.value.message and "JPEG" in caught.value.message


def test_notes_on_the_weights_are_on_the_page_and_escaped(tmp_path):
    darkroom = tiny_darkroom(tmp_path)
    assert Page(darkroom).notes() == ""
    object.__setattr__(darkroom.restorer.weights, "notes", (f"a/b is not there {HOSTILE}.",))
    with served(tmp_path, darkroom) as demo:
        config = str(demo.demo.get_config_file())
        assert "a/b is not there &lt;img" in config and HOSTILE not in config


def test_weights_without_an_amplifier_start_from_a_middle_value(tmp_path, dark):
    darkroom = tiny_darkroom(tmp_path)
    object.__setattr__(darkroom.restorer.weights, "amplifier", None)
    _, stops, factor = Page(darkroom).open(dark)
    assert stops == to_stops(100) and "chosen" in factor
    with pytest.raises(gr.Error, match="cannot estimate"):
        Page(darkroom).auto(dark)


# --- wiring ---


def test_only_the_two_tools_are_public_and_all_heavy_work_shares_a_lane(demo):
    functions = demo.demo.fns.values()
    public = {fn.api_name for fn in functions if fn.api_visibility == "public"}
    assert public == {"restore", "inspect"}
    quick = ("clear", "clear_result")
    heavy = [fn for fn in functions if fn.queue and fn.fn and fn.name not in quick]
    assert {fn.concurrency_id for fn in heavy} == {"processor"}
    assert {fn.concurrency_limit for fn in heavy} == {1}


def test_the_page_opens_with_a_pair_and_names_nobody_else(demo):
    text = httpx.get(demo.url).text
    config = httpx.get(f"{demo.url}/config").json()
    shown = {part["type"]: part["props"] for part in config["components"]}
    assert len(shown["imageslider"]["value"]) == 2
    assert "google-analytics" not in text and "fonts.googleapis" not in text
    for image in shown["imageslider"]["value"]:
        assert httpx.get(image["url"]).headers["content-type"] == "image/jpeg"


# --- endpoints ---


def test_restore_gives_a_picture_and_a_report(client, demo, dark):
    picture, report = client.predict(handle_file(dark), api_name="/restore")
    assert Image.open(picture).size == (192, 128)
    assert report["amplification_source"] == "estimated"
    assert report["weights"]["sha256"] == demo.darkroom.restorer.weights.sha256
    assert {"read", "network", "render", "encode"} <= report["seconds"].keys()
    assert report["megapixels_per_second"] > 0


def test_restore_takes_a_factor_and_a_format(client, dark):
    picture, report = client.predict(
        file=handle_file(dark), amplification=30, format="tiff", api_name="/restore"
    )
    assert tifffile.imread(picture).dtype == np.uint16
    assert (report["amplification"], report["amplification_source"]) == (30, "chosen")


def test_inspect_tells_what_was_read(client, dark):
    contents = client.predict(handle_file(dark), api_name="/inspect")
    assert contents["camera"] == "Acme One" and contents["iso"] == 3200
    assert (contents["width"], contents["height"], contents["cfa"]) == (192, 128, "RGGB")
    assert 1 <= contents["estimated_amplification"] <= 1000


def test_the_endpoints_are_documented_and_typed(client):
    tools = client.view_api(return_format="dict")["named_endpoints"]
    assert tools.keys() == {"/restore", "/inspect"}
    parameters = {p["parameter_name"]: p for p in tools["/restore"]["parameters"]}
    assert list(parameters) == ["file", "amplification", "format"]
    assert parameters["amplification"]["parameter_default"] == 0
    assert "jpg" in str(parameters["format"]["python_type"])
    assert "0 estimates" in parameters["amplification"]["label"]
    described = httpx.get(f"{client.src}gradio_api/info").json()["named_endpoints"]
    assert "dark RAW photograph" in described["/restore"]["description"]


def test_plain_http_is_enough(demo, dark):
    with open(dark, "rb") as file:
        uploaded = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}).json()
    data = [{"path": uploaded[0], "meta": {"_type": "gradio.FileData"}}]
    call = f"{demo.url}/gradio_api/call/inspect"
    event = httpx.post(call, json={"data": data}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert "event: complete" in answer and "Acme One" in answer


@pytest.mark.parametrize("amplification", [-1, 0.5, 1001, float("nan")])
def test_a_senseless_factor_is_refused(client, dark, amplification):
    with pytest.raises((AppError, ValueError)):
        client.predict(handle_file(dark), amplification, api_name="/restore")
    assert client.predict(handle_file(dark), api_name="/inspect")["width"] == 192


def test_a_broken_file_gets_a_sentence(client, tmp_path):
    broken = tmp_path / "broken.dng"
    broken.write_bytes(b"II*\0nothing")
    with pytest.raises(AppError, match=r"broken\.dng .*\."):
        client.predict(handle_file(broken), api_name="/restore")


# --- what is refused ---


def forged(demo, path: str) -> str:
    call = f"{demo.url}/gradio_api/call/inspect"
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    event = httpx.post(call, json={"data": data}).json()["event_id"]
    return httpx.get(f"{call}/{event}", timeout=60).text


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(app.__file__)), "../../etc/passwd"])
def test_paths_outside_the_uploads_are_not_read(demo, path):
    answer = forged(demo, path)
    assert "event: error" in answer and "root:" not in answer
    assert httpx.get(f"{demo.url}/gradio_api/file={path}").status_code in (403, 404)


def test_web_addresses_are_not_fetched(demo):
    answer = forged(demo, "http://example.org/x.dng")
    assert "event: error" in answer and "not fetched" in answer


def test_the_address_of_an_upload_is_read_from_the_folder(demo, dark):
    with open(dark, "rb") as file:
        path = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}).json()[0]
    assert "Acme One" in forged(demo, f"{demo.url}/gradio_api/file={path}")
    outside = forged(demo, f"{demo.url}/gradio_api/file=/etc/passwd")
    assert "event: error" in outside and "not fetched" in outside


def test_too_large_an_upload_is_refused_with_413(demo):
    answer = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": ("big.dng", bytes(3_000_000))})
    assert answer.status_code == 413 and "maximum allowed size" in answer.text


# --- the temporary folder ---


def test_the_folder_of_a_dead_server_is_removed_and_that_of_a_living_one_kept(tmp_path):
    dead, living = (tmp_path / f"{housekeeping.PREFIX}{pid}" for pid in (2**22 + 1, os.getppid()))
    old = tmp_path / f"{housekeeping.PREFIX}{os.getpid()}"
    for folder in (dead, living, old):
        folder.mkdir()
        (folder / "picture.jpg").touch()
    fresh = housekeeping.fresh_folder(tmp_path)
    assert not dead.exists() and living.exists()
    assert fresh == old.resolve() and not list(fresh.iterdir())


def test_a_sweep_leaves_what_is_new_and_what_the_page_needs(tmp_path):
    kept, gone = tmp_path / "a" / "example.dng", tmp_path / "b" / "upload.dng"
    for path in (kept, gone):
        path.parent.mkdir()
        path.touch()
    housekeeping.sweep(tmp_path, {kept}, older_than=60)
    assert gone.exists()
    housekeeping.sweep(tmp_path, {kept}, older_than=-1)
    housekeeping.sweep(tmp_path, {kept}, older_than=-1)
    assert kept.exists() and not gone.parent.exists()


def test_a_sweep_follows_no_links(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir(), inside.mkdir()
    (outside / "precious").touch()
    (inside / "link").symlink_to(outside)
    housekeeping.sweep(inside, set(), older_than=-1)
    assert (outside / "precious").exists() and not list(inside.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="needs gradio[mcp]")
def test_agents_get_the_same_two_tools(tmp_path, dark):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def talk(url):
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (reader, writer, _),
            ClientSession(reader, writer) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            with open(dark, "rb") as file:
                path = httpx.post(f"{url}/gradio_api/upload", files={"files": file}).json()[0]
            address = f"{url}/gradio_api/file={path}"
            names = {name.rpartition("_")[2]: name for name in tools}
            seen = await session.call_tool(names["inspect"], {"file": address})
            made = await session.call_tool(
                names["restore"], {"file": address, "amplification": 20, "format": "jpg"}
            )
            return tools, names, seen, made

    with served(tmp_path, mcp_server=True) as demo:
        tools, names, seen, made = asyncio.run(talk(demo.url))
    assert names.keys() == {"inspect", "restore"}
    assert "dark RAW photograph" in tools[names["restore"]].description
    parameters = tools[names["restore"]].inputSchema["properties"]
    assert "brightened" in parameters["amplification"]["description"]
    assert "Acme One" in str(seen.content) and not seen.isError
    assert "chosen" in str(made.content) and not made.isError
