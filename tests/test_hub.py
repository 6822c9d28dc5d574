"""Weights from the Hub, and every way in which the Hub can fail, against a hub of our own."""

import json
import subprocess
import sys
import time

import pytest
from hub_server import running_hub
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from tiny_weights import files_of, write_folder

import llpack
from llpack import weights
from llpack.hub import parse_name
from llpack.weights import load_weights

REPO = "someone/night"


@pytest.fixture(autouse=True)
def embedded(tmp_path, monkeypatch):
    """Embedded weights that can be told from the Hub's."""
    folder = write_folder(tmp_path / "embedded", seed=1, name="the-embedded-ones")
    monkeypatch.setattr(weights, "EMBEDDED", folder)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def files(tmp_path):
    return files_of(write_folder(tmp_path / "published", name="from-the-hub"))


def refused(spec: str, *, within_s: float = 2.0, **options) -> str:
    """The note that says why the embedded weights were used."""
    started = time.monotonic()
    loaded = load_weights(spec, **options)
    assert time.monotonic() - started < within_s
    assert (loaded.name, loaded.source) == ("the-embedded-ones", "embedded")
    (note,) = loaded.notes
    assert note.endswith("The embedded weights are used.")
    assert "127.0.0.1" not in note and "hf_" not in note and "/tmp" not in note
    return note


def test_weights_come_from_the_hub_with_their_commit(hub, files):
    commit = hub.add(REPO, files).commits[-1][0]
    loaded = load_weights(REPO)
    assert (loaded.name, loaded.notes) == ("from-the-hub", ())
    assert loaded.source == f"{REPO}@{commit}"
    assert loaded.sha256 == json.loads(files["config.json"])["sha256"]


def test_the_variable_names_a_repository(hub, files, monkeypatch):
    hub.add(REPO, files)
    monkeypatch.setenv("LLPACK_WEIGHTS", REPO)
    assert load_weights().name == "from-the-hub"
    assert load_weights("embedded").name == "the-embedded-ones"


def test_a_pinned_revision_makes_no_request_once_cached(hub, files):
    repository = hub.add(REPO, files)
    commit = repository.commits[-1][0]
    repository.commit({"config.json": b"{}"})  # main has moved on
    spec = f"{REPO}@{commit}"
    assert load_weights(spec).source == spec
    hub.requests.clear()
    again = load_weights(spec)
    assert (again.source, again.notes, hub.requests) == (f"{spec} (cached)", (), [])


def test_an_older_copy_is_replaced_when_main_moves(hub, files, tmp_path):
    repository = hub.add(REPO, files)
    load_weights(REPO)
    newer = repository.commit(files_of(write_folder(tmp_path / "newer", seed=2, name="newer")))
    loaded = load_weights(REPO)
    assert (loaded.name, loaded.source) == ("newer", f"{REPO}@{newer}")


def test_unchanged_weights_are_not_downloaded_twice(hub, files):
    hub.add(REPO, files)
    load_weights(REPO)
    hub.requests.clear()
    load_weights(REPO)
    assert not [request for request in hub.requests if request.startswith("GET")]


@pytest.mark.parametrize("fault", ["down", "gone", "slow", "offline", "private"])
def test_the_cached_copy_is_used_with_a_note(hub, files, fault, monkeypatch):
    commit = hub.add(REPO, files).commits[-1][0]
    load_weights(REPO)
    match fault:
        case "down":
            hub.down = True
        case "gone":
            del hub.repositories["models", REPO]
        case "slow":
            hub.delay_s = 1.0
        case "offline":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        case "private":
            hub.repositories["models", REPO].private = True
            monkeypatch.delenv("HF_TOKEN")
    loaded = load_weights(REPO, deadline_s=0.4)
    assert (loaded.name, loaded.source) == ("from-the-hub", f"{REPO}@{commit} (cached)")
    (note,) = loaded.notes
    assert REPO in note and note.endswith("The cached copy is used.")


def test_missing_repository(hub):
    assert "no repository someone/night" in refused(REPO)


def test_from_python_the_note_is_a_warning(hub, files):
    with pytest.warns(UserWarning, match="no repository someone/night"):
        llpack.load_restorer(REPO)
    commit = hub.add(REPO, files).commits[-1][0]
    assert llpack.load_restorer(REPO).weights.source == f"{REPO}@{commit}"


def test_private_repository_needs_the_token(hub, files, monkeypatch):
    hub.add(REPO, files, private=True)
    assert load_weights(REPO).name == "from-the-hub"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", constants.HF_HUB_CACHE + "-empty")
    assert "private" in refused(REPO)


def test_gated_repository(hub, files):
    hub.add(REPO, files, gated=True)
    assert "accept its terms" in refused(REPO)


@pytest.mark.parametrize("revision", ["v7", "0123456789abcdef" * 2 + "01234567"])
def test_wrong_revision(hub, files, revision):
    hub.add(REPO, files)
    assert f"no revision {revision}" in refused(f"{REPO}@{revision}")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_file(hub, files, file):
    del files[file]
    hub.add(REPO, files)
    assert "lacks config.json or model.safetensors" in refused(REPO)


def test_a_pickle_is_never_fetched(hub, files):
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    hub.add(REPO, files)
    assert "never as pickles" in refused(REPO)
    assert not [request for request in hub.requests if "pytorch_model" in request]


def test_a_hub_that_is_too_slow(hub, files):
    hub.add(REPO, files)
    hub.delay_s = 1.5
    assert "did not answer in time" in refused(REPO, deadline_s=0.3, within_s=1.2)


def test_a_hub_that_answers_with_errors(hub):
    hub.down = True
    assert "HTTP 503" in refused(REPO)


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    closed = "http://127.0.0.1:9"  # nothing listens there
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed + "/{repo_id}/{revision}/{filename}"
    )
    assert "could not be reached" in refused(REPO)


def test_half_a_download(hub, files):
    hub.add(REPO, files)
    hub.half_files = True
    assert "did not answer in time" in refused(REPO, deadline_s=0.6)
    hub.half_files = False
    assert load_weights(REPO).name == "from-the-hub"  # nothing half is left in the cache


def test_a_damaged_file_is_refused_and_fetched_again(hub, files):
    damaged = bytearray(files["model.safetensors"])
    damaged[-1] ^= 1
    repository = hub.add(REPO, files | {"model.safetensors": bytes(damaged)})
    commit, stored = repository.commits[-1]
    assert "damaged" in refused(f"{REPO}@{commit}")
    stored["model.safetensors"] = files["model.safetensors"]  # it had suffered on the way
    assert load_weights(f"{REPO}@{commit}").name == "from-the-hub"


def test_wrong_keys(hub, tmp_path):
    folder = write_folder(tmp_path / "wrong", amplifier=False)
    hub.add(REPO, files_of(folder))
    note = refused(REPO)
    assert "unexpected (amplifier.hidden.bias" in note and REPO in note


def test_another_projects_model_is_refused_before_it_is_downloaded(hub):
    hub.add(REPO, {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 1000})
    assert "not a config of llpack" in refused(REPO)
    assert not [request for request in hub.requests if "model.safetensors" in request]


def test_offline_with_nothing_cached(hub, files, monkeypatch):
    hub.add(REPO, files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused(REPO)
    assert hub.requests == []


def test_a_name_that_the_hub_does_not_accept(hub):
    assert "not a name that the Hub accepts" in refused("some--one/night")


def test_the_client_is_imported_only_for_the_hub():
    code = "import sys, llpack.weights; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.text())
def test_any_text_is_a_name_or_not(text):
    found = parse_name(text)
    if found:
        repo, revision = found
        assert text == (repo if revision is None else f"{repo}@{revision}")
        assert ".." not in text.split("/") and not text.startswith(("/", ".", "~"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a/b", ("a/b", None)),
        ("a/b@v1.0", ("a/b", "v1.0")),
        ("a/b@refs/pr/3", ("a/b", "refs/pr/3")),
        ("a/b@../../x", None),
        ("../b", None),
        ("a", None),
        ("a/b/c", None),
        ("a/b@", None),
    ],
)
def test_names(text, found):
    assert parse_name(text) == found
