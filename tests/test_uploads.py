"""Bodies that are too large, too slow or broken off: refused with a sentence, and nothing is left."""

import contextlib
import errno
import socket
import time
from collections import namedtuple
from urllib.parse import urlsplit

import httpx
import pytest

import app
from llpack import uploads
from llpack.housekeeping import files_in
from tests.tiny_demo import served, write_dark

HEADERS = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with served(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def nothing_left():
    before = files_in(app.FOLDER)
    yield
    until(lambda: files_in(app.FOLDER) <= before)


def until(condition, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def part(content: bytes, name: str = "files", filename: str | None = "a.dng") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def upload(demo, body) -> httpx.Response:
    return httpx.post(f"{demo.url}/gradio_api/upload", content=body, headers=HEADERS, timeout=20)


def serves(demo, tmp_path) -> bool:
    data = write_dark(tmp_path / "good.dng").read_bytes()
    answer = upload(demo, part(data) + b"--b--\r\n")
    return answer.status_code == 200 and answer.json()[0].endswith("a.dng")


def test_one_file_is_taken(demo, tmp_path):
    assert serves(demo, tmp_path)


def test_form_fields_are_short(demo, nothing_left):
    body = part(b"x", "first", None) + part(bytes(uploads.MAX_FIELD_BYTES + 1), "x", None)
    answer = upload(demo, body + b"--b--\r\n")
    assert (answer.status_code, answer.text) == (400, "Form fields have at most 10000 bytes.")


def test_one_file_at_a_time(demo, nothing_left):
    answer = upload(demo, part(b"one") + part(b"two") + b"--b--\r\n")
    assert answer.status_code == 400 and "Maximum number of files is 1" in answer.text


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("path", ["call/inspect", "queue/join", "upload"])
def test_large_bodies_are_refused(demo, nothing_left, monkeypatch, chunked, path):
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 2_000_000)
    size = 3_000_000 if path == "upload" else uploads.MAX_BODY_BYTES + 1
    start = part(b"") if path == "upload" else b'{"data": ["'
    body = start + b"a" * size
    headers = HEADERS if path == "upload" else {"content-type": "application/json"}
    content = iter([body[:900], body[900:]]) if chunked else body
    answer = httpx.post(f"{demo.url}/gradio_api/{path}", content=content, headers=headers, timeout=20)
    assert answer.status_code == 413
    assert f"at most {2 if path == 'upload' else 1} MB are accepted" in answer.text


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"data": ' + b"[" * 100_000, b"\xff", b"null"])
def test_bodies_that_are_no_call(demo, body):
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{demo.url}/gradio_api/call/inspect", content=body, headers=headers)
    assert answer.status_code in (400, 422) and "Traceback" not in answer.text


@contextlib.contextmanager
def half_sent(demo):
    """The socket of an upload whose second half does not come."""
    address = urlsplit(demo.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + part(bytes(50_000))
        )
        yield connection


def test_an_upload_that_breaks_off_leaves_nothing(demo, tmp_path, nothing_left):
    before = files_in(app.FOLDER)
    with half_sent(demo):
        until(lambda: files_in(app.FOLDER) - before)
    until(lambda: files_in(app.FOLDER) == before)
    assert serves(demo, tmp_path)


def test_an_upload_that_stalls_is_ended(demo, tmp_path, nothing_left, monkeypatch):
    monkeypatch.setattr(uploads, "STALL_S", 0.2)
    with half_sent(demo) as connection:
        assert serves(demo, tmp_path)  # it holds up nobody
        connection.settimeout(10)
        answer = connection.recv(10_000)
        while b"Nothing came" not in answer and (more := connection.recv(10_000)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 408") and b"Nothing came" in answer


def test_the_last_space_is_kept_for_pictures(demo, nothing_left, monkeypatch, tmp_path):
    usage = namedtuple("Usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(uploads.shutil, "disk_usage", lambda path: usage(10**9, 6 * 10**8, 4 * 10**8))
        answer = upload(demo, part(b"x") + b"--b--\r\n")
    assert (answer.status_code, answer.text) == (400, uploads.DISK_FULL)
    assert serves(demo, tmp_path)


def test_a_disk_that_is_full_in_the_middle(demo, nothing_left, monkeypatch, tmp_path):
    async def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gradio.route_utils.GradioUploadFile.write", write)
        answer = upload(demo, part(bytes(1000)) + b"--b--\r\n")
    assert (answer.status_code, answer.text) == (400, uploads.DISK_FULL)
    assert serves(demo, tmp_path)
