"""The page's queue: what one visitor asks for does not hold up the others.

Gradio serves requests as they come, and lets one visitor fill the queue. Its queue has no public
way to change that, so this builds on the inner ones of the pinned version; tests/test_fair_queue.py
meets them as visitors do.
"""

import asyncio
from collections import Counter

import gradio as gr
from gradio import route_utils
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

MAX_WAITING = 20
MAX_WAITING_EACH = 5  # more than the page itself asks for at once, unless every button is pressed

FULL = (
    f"{MAX_WAITING} requests are waiting already, the most that this page takes. Try again in a minute."
)
TOO_MANY = (
    f"You have {MAX_WAITING_EACH} requests waiting already, the most for one visitor. "
    "Try again when one of them is done."
)


class FairQueue(Queue):
    """Gradio's queue with a limit for each visitor, and with turns: one request of each, then the
    second of each.

    A visitor is a session of the page or of gradio_client. Callers without a session are one
    visitor for each network address; behind a proxy, all of them are one.
    """

    async def push(self, body, request, username):
        if body.fn_index is not None and (refusal := self._refusal(body.session_hash, request)):
            return await self._refuse(refusal, body, request, username)
        answer = await super().push(body, request, username)
        for name, lane in self.event_queue_per_concurrency_id.items():
            _take_turns(lane.queue)
            self.broadcast_estimations(name)
        return answer

    def _refusal(self, session: str | None, request) -> str | None:
        """Why one more request has to go, in a sentence."""
        waiting = [e for lane in self.event_queue_per_concurrency_id.values() for e in lane.queue]
        visitor = ("session", session) if session else _address(request)
        if Counter(map(_visitor, waiting))[visitor] >= MAX_WAITING_EACH:
            return TOO_MANY
        return FULL if len(waiting) >= MAX_WAITING else None

    async def _refuse(self, message: str, body, request, username):
        """Answer a request as if it had failed: only so does every client show the message."""
        event = Event(body.session_hash, route_utils.get_fn(self.blocks, None, body), request, username)
        async with self.pending_message_lock:
            if event.session_hash not in self.pending_messages_per_session:
                self.pending_messages_per_session[event.session_hash] = asyncio.Queue()
            self.pending_event_ids_session.setdefault(event.session_hash, set()).add(event._id)
        error = gr.Error(message, duration=20, title="Sorry", print_exception=False)
        failed = ProcessCompletedMessage(output=error_payload(error, False), success=False)
        self.send_message(event, failed)
        return True, event._id, "success"


def make_fair(demo: gr.Blocks) -> gr.Blocks:
    """Give a page this queue; nobody gets past it (Gradio leaves a way open outside Spaces)."""
    demo.queue(max_size=MAX_WAITING, api_open=False)
    demo._queue.__class__ = FairQueue  # with all that Gradio has set up in it
    return demo


def _take_turns(waiting: list[Event]) -> None:
    """Sort by how many requests of the same visitor come before; the first first among equals."""
    before: Counter[tuple[str, str]] = Counter()
    turns = {}
    for event in waiting:
        visitor = _visitor(event)
        turns[event._id] = before[visitor]
        before[visitor] += 1
    waiting.sort(key=lambda event: turns[event._id])


def _visitor(event: Event) -> tuple[str, str]:
    """Gradio gives an event without a session its own number as one."""
    alone = event.session_hash == event._id
    return _address(event.request) if alone else ("session", event.session_hash)


def _address(request) -> tuple[str, str]:
    return "address", request.client.host if request.client else ""
