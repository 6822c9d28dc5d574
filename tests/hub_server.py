"""A small Hugging Face Hub on 127.0.0.1: the routes that the client uses, and faults on demand.

It keeps repositories in memory, checks what it is sent (hashes, sizes) and writes down every
request. Routes and headers as the client of 2.4 asks for them.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

TOKEN = "hf_test"
LARGE = 100_000  # bytes; larger files go the LFS way
DAY = "2026-01-01T00:00:00.000Z"


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    hardware: str | None = None

    def commit(self, files: dict[str, bytes | None]) -> str:
        """Add, replace or (None) delete files; returns the new commit."""
        merged = {**(self.commits[-1][1] if self.commits else {}), **files}
        merged = {name: data for name, data in merged.items() if data is not None}
        sha = hashlib.sha1(repr((len(self.commits), sorted(merged))).encode()).hexdigest()
        self.commits.append((sha, merged))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else ("0" * 40, {})
        return next((commit for commit in self.commits if commit[0] == revision), None)


class Hub:
    """The state of the server. Faults: `delay_s` before each answer, `down` (503 to everything),
    `half_files` (downloads end in the middle), `create_status` (refuse to create)."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []  # "METHOD /path"
        self.blobs: dict[str, bytes] = {}
        self.stages = ["RUNNING"]  # what a Space's runtime says, one after the other
        self.logs = {"build": [], "run": []}
        self.delay_s = 0.0
        self.down = self.half_files = False
        self.create_status = 200
        self.url = ""

    def add(self, name: str, files: dict[str, bytes] | None = None, kind="models", **options):
        repository = self.repositories[kind, name] = Repository(**options)
        if files is not None:
            repository.commit(files)
        return repository


@contextlib.contextmanager
def running_hub(monkeypatch, tmp_path):
    """A Hub that the client in this process talks to, with an empty cache and a token."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    template = "/{repo_id}/resolve/{revision}/{filename}"
    # The client reads its variables when it is imported, which may have happened long ago.
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        time.sleep(self.hub.delay_s)
        if self.hub.down:
            return self._answer(503, {"error": "down for maintenance"})
        for pattern, route in _ROUTES:
            if found := re.fullmatch(pattern, path):
                return route(self, **found.groupdict())
        return self._answer(404, {"error": f"no route {path}"})

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *arguments):
        pass

    def _answer(self, status: int, value=None, headers=(), data: bytes | None = None):
        data = json.dumps(value).encode() if data is None else data
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str):
        self._answer(status, {"error": code}, [("X-Error-Code", code), ("X-Error-Message", code)])

    def _repository(self, kind: str, name: str) -> Repository | None:
        """The repository if the visitor may see it; otherwise it is refused as the Hub does."""
        repository = self.hub.repositories.get((kind, name))
        trusted = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not trusted):
            self._refuse(404 if trusted else 401, "RepoNotFound")
            return None
        return repository

    def resolve(self, kind: str | None, name: str, revision: str, file: str):
        repository = self._repository(kind or "models", name)
        if repository is None:
            return
        if repository.gated:
            return self._refuse(403, "GatedRepo")
        commit = repository.at(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        sha, files = commit
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        data = files[file]
        etag = hashlib.sha256(data).hexdigest()
        self.send_response(200)
        for key, text in (("X-Repo-Commit", sha), ("ETag", f'"{etag}"')):
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if self.hub.half_files else data)
            self.close_connection = self.hub.half_files

    def info(self, kind: str, name: str, revision: str | None = None):
        repository = self._repository(kind, name)
        if repository is None:
            return
        commit = repository.at(revision or "main")
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        sha, files = commit
        self._answer(
            200,
            {
                "id": name, "_id": "0", "modelId": name, "sha": sha, "private": repository.private,
                "siblings": [{"rfilename": file} for file in files], "tags": [], "downloads": 0,
                "likes": 0, "lastModified": DAY, "createdAt": DAY, "gated": repository.gated,
                "disabled": False,
            },
        )  # fmt: skip

    def tree(self, kind: str, name: str):
        if (repository := self._repository(kind, name)) is not None:
            files = repository.at("main")[1]
            entry = {"type": "file", "oid": "0" * 40}
            self._answer(200, [entry | {"path": p, "size": len(d)} for p, d in files.items()])

    def create(self):
        if self.hub.create_status != 200:
            return self._answer(self.hub.create_status, {"error": "no"})
        body = json.loads(self.body)
        name = f"{body['organization']}/{body['name']}"
        kind = f"{body.get('type', 'model')}s"
        url = f"{self.hub.url}/{'spaces/' if kind == 'spaces' else ''}{name}"
        if (kind, name) in self.hub.repositories:
            return self._answer(409, {"error": "exists", "url": url})
        added = self.hub.add(name, kind=kind, private=body.get("visibility") == "private")
        added.hardware = body.get("hardware")
        self._answer(200, {"url": url})

    def validate(self):
        text = json.loads(self.body)["content"]
        errors = [] if text.startswith("---\n") else [{"message": "no metadata"}]
        self._answer(200, {"errors": errors, "warnings": []})

    def preupload(self, kind: str, name: str):
        if self._repository(kind, name) is None:
            return
        files = [
            {
                "path": file["path"], "shouldIgnore": False, "oid": None,
                "uploadMode": "lfs" if file["size"] > LARGE else "regular",
            }
            for file in json.loads(self.body)["files"]
        ]  # fmt: skip
        self._answer(200, {"files": files})

    def lfs_batch(self):
        def actions(oid: str) -> dict:
            upload = {"href": f"{self.hub.url}/lfs/{oid}"}
            return {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs-verify"}}

        objects = json.loads(self.body)["objects"]
        self._answer(
            200,
            {"transfer": "basic", "objects": [o | {"actions": actions(o["oid"])} for o in objects]},
        )

    def lfs_put(self, oid: str):
        ok = hashlib.sha256(self.body).hexdigest() == oid
        self.hub.blobs[oid] = self.body
        self._answer(200 if ok else 400, {})

    def lfs_verify(self):
        self._answer(200, {})

    def commit(self, kind: str, name: str):
        repository = self._repository(kind, name)
        if repository is None:
            return
        files = {}
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.blobs[value["oid"]]
                case "deletedFile":
                    files[value["path"]] = None
        sha = repository.commit(files)
        self._answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def variables(self, name: str):
        repository = self._repository("spaces", name)
        if repository is None:
            return
        if self.command == "POST":
            body = json.loads(self.body)
            repository.variables[body["key"]] = body["value"]
        shown = {key: {"value": value} for key, value in repository.variables.items()}
        self._answer(200, shown)

    def hardware(self, name: str):
        self.hub.repositories["spaces", name].hardware = json.loads(self.body)["flavor"]
        self._answer(200, {"stage": "BUILDING"})

    def runtime(self, name: str):
        if (repository := self._repository("spaces", name)) is None:
            return
        stage = self.hub.stages.pop(0) if len(self.hub.stages) > 1 else self.hub.stages[0]
        flavours = {"current": repository.hardware, "requested": repository.hardware}
        self._answer(200, {"stage": stage, "hardware": flavours})

    def log(self, name: str, which: str):
        events = [
            f"data: {json.dumps({'data': line, 'timestamp': DAY})}\n\n" for line in self.hub.logs[which]
        ]
        self._answer(200, data="".join(events).encode())


_ID = r"(?P<name>[\w.-]+/[\w.-]+)"
_KIND = r"(?P<kind>models|spaces)"
_ROUTES = (
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/api/{_KIND}/{_ID}/preupload/main", _Handler.preupload),
    (rf"/api/{_KIND}/{_ID}/commit/main", _Handler.commit),
    (rf"/api/{_KIND}/{_ID}/tree/main", _Handler.tree),
    (rf"/api/{_KIND}/{_ID}(/revision/(?P<revision>.+))?", _Handler.info),
    (rf"/api/spaces/{_ID}/variables", _Handler.variables),
    (rf"/api/spaces/{_ID}/hardware", _Handler.hardware),
    (rf"/api/spaces/{_ID}/runtime", _Handler.runtime),
    (rf"/api/spaces/{_ID}/logs/(?P<which>build|run)", _Handler.log),
    (r"/.+\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    (r"/lfs-verify", _Handler.lfs_verify),
    (rf"(/(?P<kind>spaces))?/{_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve),
)
