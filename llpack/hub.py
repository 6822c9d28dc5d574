"""Fetching a weights folder from the Hugging Face Hub, with a deadline of our own.

The client waits up to 23 s when the Hub is down, and falls back to its cache without a word. Here
the network is asked in a thread that is left behind when its time is up, and what comes from the
cache says so. `huggingface_hub` is imported only when something is fetched.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llpack.errors import LlpackError, MissingWeights

CONFIG = "config.json"
TENSORS = "model.safetensors"

# A download that misses the deadline may go on behind the scenes for this long: it ends up in the
# cache, where the next start finds it.
BACKGROUND_S = 600

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w.-]*(/\w[\w.-]*)*))?", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """A weights folder of the Hub in the local cache."""

    folder: Path
    commit: str  # 40 hex digits
    cached: bool  # taken from the cache without asking the Hub
    notes: tuple[str, ...]


def parse_name(spec: str) -> tuple[str, str | None] | None:
    """("owner/name", revision or None) of "owner/name" or "owner/name@revision", else None."""
    found = _NAME.fullmatch(spec)
    return (found["repo"], found["revision"]) if found else None


def fetch(
    repo: str, revision: str | None, deadline_s: float, check_config: Callable[[Path], object]
) -> Snapshot:
    """The weights folder of a model repository.

    A commit (40 hex digits) that lies in the cache costs no request. A branch or tag, by default
    main, is looked up within `deadline_s`; when that fails, the cache's copy is used with a note.
    `check_config` sees config.json before anything larger is fetched, and raises if it does not
    like it: so nobody waits for the gigabytes of another project's model.

    Raises
    ------
    MissingWeights : neither the Hub nor the cache has them; the message says why
    """
    revision = revision or "main"
    _check_name(repo)
    until = time.monotonic() + deadline_s  # after importing the client, which is slow on its own
    if _COMMIT.fullmatch(revision) and (folder := _cached(repo, revision)):
        return Snapshot(folder, revision, True, ())
    try:
        folder = _within(until, lambda: _download(repo, revision, deadline_s, check_config))
        return Snapshot(folder, folder.name, False, ())
    except LlpackError:
        raise
    except Exception as error:  # the client lets a dozen unrelated kinds through
        reason = explain(error, repo, revision)
        if folder := _cached(repo, revision):
            return Snapshot(folder, folder.name, True, (f"{reason} The cached copy is used.",))
        raise MissingWeights(reason) from error


def discard(folder: Path) -> None:
    """Take a damaged weights file out of the cache, so that the next start fetches it again."""
    pointer = folder / TENSORS
    for path in (pointer.resolve(), pointer):
        try:
            path.unlink(missing_ok=True)
        except OSError:  # a read-only cache: nothing to be done, and nothing lost
            return


def explain(error: Exception, repo: str, revision: str | None = None) -> str:
    """A sentence for people about what the Hub's client raised; no address, no path, no token."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case TimeoutError():
            return f"The Hub did not answer in time for {repo}."
        case errors.GatedRepoError():
            return f"{repo} is gated: accept its terms on the Hub and set HF_TOKEN."
        case errors.RepositoryNotFoundError():
            return f"The Hub has no repository {repo}, or it is private: check the name and HF_TOKEN."
        case errors.RevisionNotFoundError():
            return f"{repo} has no revision {revision}."
        case errors.RemoteEntryNotFoundError():
            return (
                f"{repo} lacks {CONFIG} or {TENSORS}: weights are loaded from the Hub only as "
                "safetensors, never as pickles."
            )
        case errors.OfflineModeIsEnabled():
            return f"Offline mode is on (HF_HUB_OFFLINE), so {repo} was not looked up."
        case errors.LocalTokenNotFoundError():
            return "There is no token for the Hub: run `hf auth login` or set HF_TOKEN."
        case errors.HFValidationError():
            return f"{repo} is not a name that the Hub accepts."
        case _ if status in (401, 403):
            return f"The Hub refused access to {repo} (HTTP {status}): check the rights of HF_TOKEN."
        case _ if status == 402:
            return (
                f"The Hub asks for a paid plan for {repo} (HTTP 402); free accounts can have "
                "Spaces on ZeroGPU hardware (zero-a10g)."
            )
        case _ if "Timeout" in type(error).__name__:
            return f"The Hub did not answer in time for {repo}."
        case _ if status:
            return f"The Hub answered for {repo} with an error (HTTP {status})."
        case _:
            return f"The Hub could not be reached for {repo} ({type(error).__name__})."


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise MissingWeights(explain(error, repo)) from error


def _cached(repo: str, revision: str) -> Path | None:
    """The folder in the client's cache if it holds both files of this revision."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, name, revision=revision) for name in (CONFIG, TENSORS)]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) else None


def _download(
    repo: str, revision: str, timeout_s: float, check_config: Callable[[Path], object]
) -> Path:
    """Both files into the cache, both of the same commit."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Asked directly, because hf_hub_download hides a failure behind an older copy in the cache.
    get_hf_file_metadata(hf_hub_url(repo, CONFIG, revision=revision), timeout=timeout_s)
    options = {"tqdm_class": _quiet_progress(), "etag_timeout": timeout_s}
    config = Path(hf_hub_download(repo, CONFIG, revision=revision, **options))
    check_config(config)
    hf_hub_download(repo, TENSORS, revision=config.parent.name, **options)
    return config.parent


def _quiet_progress() -> type:
    """A progress bar that shows nothing and ends a download that nobody waits for any more."""
    from huggingface_hub.utils import tqdm

    until = time.monotonic() + BACKGROUND_S

    class QuietProgress(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options | {"disable": True})

        def update(self, n=1):
            if time.monotonic() > until:
                raise TimeoutError
            return super().update(n)

    return QuietProgress


def _within(until: float, work: Callable[[], Path]) -> Path:
    """The result of `work`, or TimeoutError when it is not there by `until` (monotonic)."""
    outcome = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:  # noqa: BLE001 - raised below, where it is waited for
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="llpack-hub", daemon=True)
    thread.start()
    thread.join(max(0, until - time.monotonic()))
    if not outcome:
        raise TimeoutError
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
