"""What visitors may send, checked while it arrives: before it takes memory or the disk's last space.

Gradio limits the size of each uploaded file. It does not limit other bodies, form fields and the
number of files, waits for ever for the rest of a body, and leaves on the disk what an upload that
broke off had sent; here that is done.
"""

import asyncio
import contextlib
import os
import shutil

from fastapi import HTTPException
from gradio import route_utils
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware

from llpack.isolation import MAX_FILE_MB

MAX_UPLOAD_BYTES = (MAX_FILE_MB << 20) + 65536  # as Gradio counts MB, and the frame around a file
MAX_BODY_BYTES = 1_000_000  # of anything else: a call has a few hundred
MAX_FIELD_BYTES = 10_000
STALL_S = 60.0
MIN_FREE_MB = 500  # room for one more large file and for everybody's pictures

DISK_FULL = "The server's disk is full at the moment. Try again in an hour."


def limits() -> dict:
    """What Gradio's launch takes as `app_kwargs`; puts the parser below in the place of Gradio's."""
    route_utils.GradioMultiPartParser = UploadParser
    return {"middleware": [Middleware(BodyLimit)]}


class BodyLimit:
    """ASGI middleware: refuses bodies that are too large (413) or stop arriving (408)."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = scope["path"].rstrip("/").endswith("/upload")
        limit = MAX_UPLOAD_BYTES if upload else MAX_BODY_BYTES
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        seen, more = 0, True

        async def checked():
            nonlocal seen, more
            if not more:  # what comes now is that the visitor has left
                return await receive()
            _refuse_more_than(limit, int(stated) if stated.isdigit() else 0)
            try:
                message = await asyncio.wait_for(receive(), STALL_S)
            except TimeoutError:
                raise HTTPException(
                    408, f"Nothing came for {STALL_S:.0f} seconds. Please send it again."
                ) from None
            seen += len(message.get("body", b""))
            _refuse_more_than(limit, seen)
            more = message.get("more_body", False)
            return message

        return await self.app(scope, checked, send)


def _refuse_more_than(limit: int, size: int) -> None:
    if size > limit:
        raise HTTPException(413, f"This is too large: at most {limit / 1e6:.0f} MB are accepted.")


class UploadParser(route_utils.GradioMultiPartParser):
    """One file per request and short fields; nothing stays on the disk when it breaks off."""

    def __init__(self, headers, stream, **options):
        super().__init__(headers, stream, **options | {"max_files": 1, "max_fields": 10})

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > MAX_FIELD_BYTES:
            raise MultiPartException(f"Form fields have at most {MAX_FIELD_BYTES} bytes.")
        super().on_part_data(data, start, end)

    async def parse(self):
        if shutil.disk_usage(self.upload_dir).free < MIN_FREE_MB * 1e6:
            raise MultiPartException(DISK_FULL)
        try:
            return await super().parse()
        except BaseException as error:
            for file in self._files_to_close_on_error:
                with contextlib.suppress(OSError):
                    file.close()
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
            if isinstance(error, OSError):
                raise MultiPartException(DISK_FULL) from error
            raise
