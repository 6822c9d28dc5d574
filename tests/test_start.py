"""Starting the page: `python app.py` as it is, and what it sets up for Gradio and for the platform."""

import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import gradio as gr
import httpx
import pytest

import app
from tests.conftest import REPOSITORY


@pytest.fixture
def silent_hub():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def started(tmp_path):
    """A function that starts app.py with some variables; returns its address and its log."""
    running = []

    def start(**variables) -> tuple[str, Path]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path), **variables}
        log = tmp_path / "log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "app.py"],
                cwd=REPOSITORY, env=os.environ | own, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        running.append(process)
        until = time.monotonic() + 120  # ten at most where nothing else runs
        while time.monotonic() < until and process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/").raise_for_status()
                return f"http://127.0.0.1:{port}", log
            except httpx.TransportError:
                time.sleep(0.1)
        pytest.fail(f"the page did not open: {log.read_text()}")

    yield start
    for process in running:
        process.terminate()
        process.wait()


def test_a_hub_that_never_answers_does_not_keep_the_page_from_opening(started, silent_hub, tmp_path):
    url, log = started(
        LLPACK_WEIGHTS="someone/night", HF_ENDPOINT=silent_hub, HF_HOME=str(tmp_path / "hf")
    )
    note = "The Hub did not answer in time for someone/night. The embedded weights are used."
    assert note in log.read_text()
    parts = httpx.get(f"{url}/config").json()["components"]
    assert note in json.dumps(parts)
    (picture,) = (part for part in parts if part["type"] == "imageslider")
    assert len(picture["props"]["value"]) == 2


def test_while_gradio_is_imported_it_writes_no_stubs():
    stub = Path(__file__).with_suffix(".pyi")
    stub.unlink(missing_ok=True)
    with app.without_stubs():

        class Picker(gr.File):
            pass

        assert inspect.getfile(Path).endswith("pathlib.py")
    assert not stub.exists()
    assert inspect.getfile(Picker) == __file__


def test_zero_gpu_finds_a_function_and_nothing_else_changes(monkeypatch, tmp_path):
    found = []
    stub = types.SimpleNamespace(GPU=lambda function: found.append(function) or function)
    monkeypatch.setitem(sys.modules, "spaces", stub)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    runpy.run_path(app.__file__, run_name="imported")
    assert len(found) == 1
