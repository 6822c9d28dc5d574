"""Visitors who meet in the queue: turns, limits, and what they are told."""

import threading
import time

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from llpack.fair_queue import MAX_WAITING, MAX_WAITING_EACH
from tests.tiny_demo import served, write_dark


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with served(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    return handle_file(write_dark(tmp_path_factory.mktemp("files") / "dark.dng"))


@pytest.fixture(scope="module")
def visitors(demo):
    """Clients, each with a session of its own."""
    clients = [Client(demo.url, verbose=False, analytics_enabled=False) for _ in range(6)]
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def started(demo, dark, visitors, monkeypatch):
    """The lane is taken by the first visitor. The amplifications in the order in which they got
    their turn; `started.go.set()` lets them go on."""
    darkroom = demo.darkroom
    done = darkroom.picture(dark["path"], 10.0, format="jpg")
    started = Started()

    def picture(path, factor, **options):
        started.append(factor)
        assert started.go.wait(30)
        return done

    monkeypatch.setattr(darkroom, "picture", picture)
    first = visitors[0].submit(dark, 999, api_name="/restore")
    until(lambda: started == [999])
    yield started
    started.go.set()
    first.result(timeout=60)


class Started(list):
    def __init__(self):
        super().__init__()
        self.go = threading.Event()


def waiting(demo) -> int:
    return len(demo.demo._queue)


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ask(demo, client: Client, dark, factor: int):
    """Hand in a request, and see it in the queue."""
    before = waiting(demo)
    job = client.submit(dark, factor, api_name="/restore")
    until(lambda: waiting(demo) > before)
    return job


def all_done(jobs) -> bool:
    return all(len(job.result(timeout=60)) == 2 for job in jobs)


def test_a_second_visitor_comes_before_the_second_request_of_the_first(demo, dark, visitors, started):
    _, greedy, modest, *_ = visitors
    jobs = [ask(demo, greedy, dark, 10 + n) for n in range(4)]
    jobs += [ask(demo, modest, dark, 20 + n) for n in range(2)]
    started.go.set()
    assert all_done(jobs)
    assert started == [999, 10, 20, 11, 21, 12, 13]


def test_one_visitor_gets_five_places_and_a_sentence(demo, dark, visitors, started):
    _, greedy, modest, *_ = visitors
    jobs = [ask(demo, greedy, dark, 10 + n) for n in range(MAX_WAITING_EACH)]
    with pytest.raises(AppError, match="You have 5 requests waiting already, the most for one"):
        greedy.predict(dark, 50, api_name="/restore")
    jobs.append(ask(demo, modest, dark, 20))
    started.go.set()
    assert all_done(jobs)
    assert all_done([greedy.submit(dark, 50, api_name="/restore")])  # later, there is a place


def test_a_full_queue_is_said(demo, dark, visitors, started):
    *others, late = visitors
    greedy = others[: MAX_WAITING // MAX_WAITING_EACH]
    jobs = [ask(demo, one, dark, 10) for one in greedy for _ in range(MAX_WAITING_EACH)]
    assert waiting(demo) == MAX_WAITING
    with pytest.raises(AppError, match="20 requests are waiting already, the most that this page"):
        late.predict(dark, api_name="/restore")
    started.go.set()
    assert all_done(jobs)


def test_callers_without_a_session_are_one_visitor_of_their_address(demo, dark, visitors, started):
    with open(dark["path"], "rb") as file:
        path = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": file}).json()[0]
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, 30, "jpg"]
    call = f"{demo.url}/gradio_api/call/restore"
    events = [
        httpx.post(call, json={"data": data}).json()["event_id"] for _ in range(MAX_WAITING_EACH + 1)
    ]
    refused = httpx.get(f"{call}/{events.pop()}", timeout=20).text
    assert "event: error" in refused and "the most for one visitor" in refused
    job = ask(demo, visitors[1], dark, 20)
    started.go.set()
    for event in events:
        assert "event: complete" in httpx.get(f"{call}/{event}", timeout=60).text
    assert all_done([job])
    assert started[:3] == [999, 30, 20]


@pytest.mark.parametrize("way", ["run", "api"])
def test_nobody_gets_past_the_queue(demo, way):
    answer = httpx.post(f"{demo.url}/gradio_api/{way}/restore", json={"data": [None, 1, "jpg"]})
    assert answer.status_code == 404 and "join the queue" in answer.text
