"""Publishing on the Hugging Face Hub: weights as a model repository, the demo as a Space.

Both functions check everything they can before the first byte leaves, say what they do through
`report` (one line at a time), and raise PublishingFailed with what to do about it.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llpack import hub
from llpack.errors import LlpackError, MissingWeights, PublishingFailed
from llpack.hub import CONFIG, TENSORS
from llpack.model_card import model_card
from llpack.weights import VARIABLE, load_weights, read_config, save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
CARD = "README.md"
LOG_TAIL = 30  # lines of a failed Space's log
_SPACE_FILES = ("app.py", "requirements.txt", CARD, "LICENSE")
_SPACE_FOLDERS = ("llpack", "examples")
_WORKING = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
_UP = ("RUNNING", "SLEEPING")
# A Space goes on showing its old state for a moment after an upload.
_NOTICE_S = 30.0

Report = Callable[[str], None]


def push(weights: str | Path, repo: str, *, private: bool = False, report: Report = print) -> str:
    """Publish weights as the model repository `repo` ("owner/name"); returns the commit to pin.

    weights: a weights folder, whose README.md, if there is one, becomes the body of the model
    card; or an authors' checkpoint, which is converted.

    Raises
    ------
    MissingWeights, WeightsMismatch : the weights are not fit to be published
    PublishingFailed : the Hub did not take them
    """
    _check_name(repo)
    with tempfile.TemporaryDirectory(prefix="llpack-") as stage:
        stage = Path(stage)
        name = _stage_weights(Path(weights), stage, repo)
        with _hub_errors(repo):
            api = _api()
            url = api.create_repo(repo, private=private, exist_ok=True)
            _check_private(api.model_info(repo).private, private, repo)
            report(f"Uploading {name} to {url}")
            message = f"Weights {name}"
            commit = api.upload_folder(repo_id=repo, folder_path=stage, commit_message=message).oid
    report(f"Published. To use exactly these weights: --weights {repo}@{commit}")
    return commit


def deploy(
    space: str,
    *,
    weights: str | None = None,
    hardware: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    root: Path = ROOT,
    timeout_s: float = 1800,
    poll_s: float = 5.0,
    report: Report = print,
) -> str:
    """Create or update the Space `space` ("owner/name") from a checkout; returns its link.

    weights: "owner/name" or "owner/name@revision" of a model repository for the Space to use, by
    default the embedded weights. hardware: the Hub's name for it, such as "cpu-basic" or
    "zero-a10g". dry_run: only say what would be done.

    Raises
    ------
    PublishingFailed : a file is missing, the Hub refused, or the Space did not start
    """
    _check_name(space)
    api = _api()
    link = f"{api.endpoint}/spaces/{space}"
    with tempfile.TemporaryDirectory(prefix="llpack-") as stage:
        stage = Path(stage)
        _stage_space(root, stage)
        pin = _pin(api, weights, stage / CARD, report) if weights else None
        if dry_run:
            report("Nothing was changed. Without --dry-run:")
            for line in _plan(space, stage, pin, hardware, private):
                report(f"  {line}")
            return link
        with _hub_errors(space):
            _upload(api, space, stage, pin, hardware, private, report)
            _wait(api, space, timeout_s, poll_s, report)
    report(f"Running: {link}")
    return link


def space_files(root: Path) -> list[str]:
    """What a Space needs, as paths relative to the checkout: no tests, caches or hidden files."""
    missing = [name for name in (*_SPACE_FILES, *_SPACE_FOLDERS) if not (root / name).exists()]
    if missing:
        raise PublishingFailed(
            f"{root} lacks {', '.join(missing)}: deploy from a complete checkout of llpack."
        )
    found = list(_SPACE_FILES)
    for folder in _SPACE_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            parts = path.relative_to(root).parts
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if path.is_file() and not hidden and path.suffix not in (".pyc", ".pyi"):
                found.append("/".join(parts))
    return found


def _stage_space(root: Path, stage: Path) -> None:
    from huggingface_hub import RepoCard

    for name in space_files(root):
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
    if RepoCard((stage / CARD).read_text(encoding="utf-8")).data.get("sdk") != "gradio":
        raise PublishingFailed(
            f"{root / CARD} does not begin with the metadata of a Space (sdk: gradio and the like)."
        )


def _api():
    from huggingface_hub import HfApi

    return HfApi()


def _check_name(repo: str) -> None:
    if hub.parse_name(repo) != (repo, None):
        raise PublishingFailed(f"'{repo}' is not a name on the Hub: give OWNER/NAME.")


@contextmanager
def _hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """What the client raises, as PublishingFailed with a sentence."""
    try:
        yield
    except LlpackError:
        raise
    except Exception as error:
        said = getattr(error, "server_message", None)
        sentence = hub.explain(error, repo, revision)
        raise PublishingFailed(f"{sentence} It said: {said}" if said else sentence) from error


def _check_private(is_private: bool | None, wanted: bool, repo: str) -> None:
    # The Hub leaves an existing repository as it is: nothing private may end up in a public one.
    if wanted and not is_private:
        raise PublishingFailed(
            f"{repo} exists and is public: make it private in its settings, or leave out --private."
        )


def _stage_weights(weights: Path, stage: Path, repo: str) -> str:
    """A folder to upload: verified weights, config, model card and the pictures that it shows;
    returns the weights' name."""
    if not weights.exists():
        raise MissingWeights(f"There is nothing at {weights}: give a weights folder or a checkpoint.")
    body = None
    if weights.is_dir():
        load_weights(str(weights))
        for name in (CONFIG, TENSORS):
            shutil.copyfile(weights / name, stage / name)
        if (weights / CARD).exists():
            body = (weights / CARD).read_text(encoding="utf-8")
            for picture in weights.glob("*.jpg"):
                if f"({picture.name})" in body:
                    shutil.copyfile(picture, stage / picture.name)
    else:
        save_checkpoint(stage, weights)
    config = read_config(stage / CONFIG)
    (stage / CARD).write_text(model_card(config, repo, body), encoding="utf-8")
    return config["name"]


def _pin(api, weights: str, card: Path, report: Report) -> str:
    """Look up the commit, as "owner/name@commit", and have the README fetch it for the build."""
    from huggingface_hub import RepoCard

    name = hub.parse_name(weights)
    if name is None:
        raise PublishingFailed(f"'{weights}' is not a model on the Hub: give OWNER/NAME[@REVISION].")
    repo, revision = name
    with _hub_errors(repo, revision):
        info = api.model_info(repo, revision=revision)
    if not {CONFIG, TENSORS} <= {file.rfilename for file in info.siblings}:
        raise PublishingFailed(f"{repo} lacks {CONFIG} or {TENSORS}: publish weights with push.")
    if info.private:  # which the Hub cannot fetch for a build
        report(f"{repo} is private: give the Space a secret HF_TOKEN that may read it.")
    else:
        readme = RepoCard(card.read_text(encoding="utf-8"))
        readme.data["models"] = [repo]
        readme.data["preload_from_hub"] = [f"{repo} {CONFIG},{TENSORS} {info.sha}"]
        card.write_text(str(readme), encoding="utf-8")
    return f"{repo}@{info.sha}"


def _plan(space: str, stage: Path, pin: str | None, hardware: str | None, private: bool) -> list[str]:
    kind = "private" if private else "public"
    files = [path for path in sorted(stage.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return [
        f"create the {kind} Space {space}, unless it exists",
        *([f"request the hardware {hardware}"] if hardware else []),
        *([f"set {VARIABLE}={pin}"] if pin else []),
        f"upload {len(files)} files, {size / 1e6:.1f} MB:",
        *(f"  {path.relative_to(stage).as_posix()}" for path in files),
        "wait for the Space to start",
    ]


def _upload(
    api,
    space: str,
    stage: Path,
    pin: str | None,
    hardware: str | None,
    private: bool,
    report: Report,
) -> None:
    """Create the Space if need be, set it up and upload its files."""
    options = {"repo_type": "space", "space_sdk": "gradio", "space_hardware": hardware}
    report(f"Space: {api.create_repo(space, private=private, exist_ok=True, **options)}")
    _check_private(api.space_info(space).private, private, space)
    if hardware and api.get_space_runtime(space).requested_hardware != hardware:
        api.request_space_hardware(space, hardware)
    if pin:
        api.add_space_variable(space, VARIABLE, pin)
        report(f"{VARIABLE}={pin}")
    elif (kept := api.get_space_variables(space).get(VARIABLE)) is not None:
        report(f"{VARIABLE}={kept.value} stays as it was set before.")
    report("Uploading")
    api.upload_folder(
        repo_id=space,
        repo_type="space",
        folder_path=stage,
        # What an older version had in these folders goes; all else in the Space is not ours.
        delete_patterns=[f"{folder}/*" for folder in _SPACE_FOLDERS],
        commit_message="Deploy llpack",
    )


def _wait(api, space: str, timeout_s: float, poll_s: float, report: Report) -> None:
    """Until the Space runs; raises PublishingFailed with the end of the log if it does not."""
    started = time.monotonic()
    shown, noticed = None, False
    while True:
        runtime = api.get_space_runtime(space)
        stage, waited = runtime.stage, time.monotonic() - started
        if stage != shown:
            report(f"{stage} ({waited:.0f} s)")
            shown = stage
        working = stage in _WORKING
        noticed = noticed or working or waited > _NOTICE_S
        if noticed and not working:
            break
        if waited > timeout_s:
            raise PublishingFailed(f"{space} has not started within {timeout_s:.0f} s ({stage}).")
        time.sleep(poll_s)
    if stage not in _UP:
        _show_log(api, space, stage, report)
        raise PublishingFailed(f"{space} did not start ({stage}); the end of its log is above.")


def _show_log(api, space: str, stage: str, report: Report) -> None:
    """The last lines of the log of a Space that failed to build, or to run."""
    built = stage == "RUNTIME_ERROR"
    events = api.fetch_space_logs(space, build=not built)
    lines = [line for event in events for line in event.splitlines() or [""]]
    for line in lines[-LOG_TAIL:]:
        report(f"  {line}")
