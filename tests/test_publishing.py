"""Publishing weights and the Space, against a hub of our own."""

import json

import pytest
import torch
from hub_server import running_hub
from huggingface_hub import RepoCard
from tiny_weights import files_of, write_folder

from llpack import publishing, weights
from llpack.errors import LlpackError, PublishingFailed, WeightsMismatch
from llpack.network import LLPackNet
from llpack.publishing import deploy, push
from llpack.weights import load_weights

REPO, SPACE = "me/night", "me/demo"
README = "---\ntitle: Night\nsdk: gradio\nsdk_version: 6.31.0\npython_version: '3.11'\n---\n# Night\n"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Spaces of the test hub never show an old state unless a test says so."""
    monkeypatch.setattr(publishing, "_NOTICE_S", -1.0)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "weights", name="llpack-detail")


@pytest.fixture
def said():
    return []


@pytest.fixture
def root(tmp_path):
    """A checkout with what a Space needs, and with what it does not."""
    contents = {
        "app.py": "demo = 1", "requirements.txt": "torch==2.13.0\n", "README.md": README,
        "LICENSE": "MIT", "llpack/__init__.py": "", "llpack/raw.py": "x = 1",
        "llpack/embedded/config.json": "{}", "examples/night.dng": "RAW",
        "llpack/__pycache__/raw.cpython-311.pyc": "no", "llpack/.secret": "no",
        "tests/test_raw.py": "no", ".git/config": "no", "runs/last.pt": "no", "notes.md": "no",
        "examples/.cache/x": "no",
    }  # fmt: skip
    for name, text in contents.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


NEEDED = {
    "app.py", "requirements.txt", "README.md", "LICENSE", "llpack/__init__.py", "llpack/raw.py",
    "llpack/embedded/config.json", "examples/night.dng",
}  # fmt: skip


def stored(hub, name, kind="models"):
    return hub.repositories[kind, name].commits[-1][1]


def test_what_is_pushed_is_what_is_loaded(hub, folder, said, monkeypatch):
    (folder / "notes.txt").write_text("stays at home")
    commit = push(folder, REPO, report=said.append)
    assert f"{REPO}@{commit}" in said[-1]
    files = stored(hub, REPO)
    assert files.keys() == {"config.json", "model.safetensors", "README.md"}
    monkeypatch.setattr(weights, "EMBEDDED", folder.parent / "none")
    loaded = load_weights(f"{REPO}@{commit}")
    assert loaded.source == f"{REPO}@{commit}"
    original = load_weights(str(folder)).network.state_dict()
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, original[key])


def test_pushing_again_makes_a_new_commit(hub, folder, tmp_path):
    first = push(folder, REPO, report=lambda line: None)
    second = push(write_folder(tmp_path / "b", seed=3), REPO, report=lambda line: None)
    assert first != second
    assert json.loads(stored(hub, REPO)["config.json"])["name"] == "llpack-test"


def card_of(hub):
    return RepoCard(stored(hub, REPO)["README.md"].decode())


def test_model_card_of_a_folder_without_words(hub, folder):
    push(folder, REPO, report=lambda line: None)
    card = card_of(hub)
    assert (card.data.library_name, card.data.pipeline_tag) == ("llpack", "image-to-image")
    assert card.data.license == "mit" and "low-light" in card.data.tags
    for words in (REPO, "llpack-detail", "drawn at random", "Limits", "Not measured", "@inproc"):
        assert words in card.text


def test_model_card_of_a_folder_with_words(hub, folder):
    words = "---\ndatasets: [some/photos]\ntags: [night]\n---\n# Mine\n| PSNR | 23 |\n"
    (folder / "README.md").write_text(words)
    push(folder, REPO, report=lambda line: None)
    card = card_of(hub)
    assert card.data.datasets == ["some/photos"] and card.data.pipeline_tag == "image-to-image"
    assert {"night", "raw"} <= set(card.data.tags)
    assert card.text == "# Mine\n| PSNR | 23 |\n"


def test_the_pictures_of_a_card_go_with_it(hub, folder):
    (folder / "README.md").write_text("# Mine\n![Crops](crops.jpg)\n")
    (folder / "crops.jpg").write_bytes(b"a picture")
    (folder / "private.jpg").write_bytes(b"stays at home")
    push(folder, REPO, report=lambda line: None)
    assert stored(hub, REPO)["crops.jpg"] == b"a picture"
    assert "private.jpg" not in stored(hub, REPO)


def test_the_licence_and_a_single_tag_of_a_folder_are_kept(hub, folder):
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\ntags: night\n---\n# Mine\n")
    push(folder, REPO, report=lambda line: None)
    assert card_of(hub).data.license == "cc-by-4.0"
    assert {"night", "llpack"} <= set(card_of(hub).data.tags)


@pytest.mark.parametrize("metadata", ["tags: [", "- a list"])
def test_metadata_that_cannot_be_read_are_refused(hub, folder, metadata):
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n# Mine\n")
    with pytest.raises(PublishingFailed, match="not valid YAML"):
        push(folder, REPO)
    assert hub.requests == []


def test_a_checkpoint_is_converted_and_named(hub, tmp_path, caplog):
    checkpoint = tmp_path / "authors_400000"
    torch.save({"model": LLPackNet().state_dict()}, checkpoint)
    commit = push(checkpoint, REPO, report=lambda line: None)
    loaded = load_weights(f"{REPO}@{commit}")
    assert (loaded.name, loaded.convention) == ("llpacknet-2020", "srgb")
    assert "authors_400000" in card_of(hub).text and "MohitLamba94" in card_of(hub).text
    assert "Setting CardData" not in caplog.text


def test_damaged_weights_are_not_pushed(hub, folder):
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsMismatch):
        push(folder, REPO)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["night", "me/night@main", "a/b/c", "", "../x"])
def test_names_that_cannot_be_published(hub, folder, root, name):
    with pytest.raises(PublishingFailed, match="OWNER/NAME"):
        push(folder, name)
    with pytest.raises(PublishingFailed, match="OWNER/NAME"):
        deploy(name, root=root)
    assert hub.requests == []


def test_private(hub, folder, root):
    push(folder, REPO, private=True, report=lambda line: None)
    deploy(SPACE, root=root, private=True, report=lambda line: None)
    assert hub.repositories["models", REPO].private and hub.repositories["spaces", SPACE].private


def test_nothing_private_goes_to_a_public_place(hub, folder, root):
    hub.add(REPO)
    hub.add(SPACE, kind="spaces")
    with pytest.raises(PublishingFailed, match="is public"):
        push(folder, REPO, private=True, report=lambda line: None)
    with pytest.raises(PublishingFailed, match="is public"):
        deploy(SPACE, root=root, private=True, report=lambda line: None)
    assert not hub.repositories["models", REPO].commits
    assert not hub.repositories["spaces", SPACE].commits


@pytest.mark.parametrize(
    ("status", "words"), [(401, "HF_TOKEN"), (402, "ZeroGPU"), (403, "HF_TOKEN"), (500, "500")]
)
def test_the_hub_refuses(hub, folder, root, status, words):
    hub.create_status = status
    with pytest.raises(PublishingFailed, match=words):
        push(folder, REPO, report=lambda line: None)
    with pytest.raises(PublishingFailed, match=words):
        deploy(SPACE, root=root, report=lambda line: None)


def test_deploy_uploads_exactly_what_a_space_needs(hub, root, said):
    link = deploy(SPACE, root=root, report=said.append)
    assert stored(hub, SPACE, "spaces").keys() == NEEDED
    assert stored(hub, SPACE, "spaces")["README.md"].decode() == README
    assert link == f"{hub.url}/spaces/{SPACE}" and said[-1] == f"Running: {link}"
    assert hub.repositories["spaces", SPACE].variables == {}


def test_deploy_pins_the_weights(hub, root, folder, said):
    commit = hub.add(REPO, files_of(folder)).commits[-1][0]
    deploy(SPACE, weights=REPO, hardware="zero-a10g", root=root, report=said.append)
    space = hub.repositories["spaces", SPACE]
    assert space.variables == {"LLPACK_WEIGHTS": f"{REPO}@{commit}"}
    assert space.hardware == "zero-a10g"
    card = RepoCard(stored(hub, SPACE, "spaces")["README.md"].decode())
    assert card.data.preload_from_hub == [f"{REPO} config.json,model.safetensors {commit}"]
    assert card.data.models == [REPO]
    assert (card.data.title, card.data.python_version) == ("Night", "3.11")
    assert card.text == "# Night\n"
    assert (root / "README.md").read_text() == README


def test_deploy_with_private_weights_asks_for_a_token(hub, root, folder, said):
    hub.add(REPO, files_of(folder), private=True)
    deploy(SPACE, weights=REPO, root=root, report=said.append)
    assert any("secret HF_TOKEN" in line for line in said)
    assert "preload_from_hub" not in stored(hub, SPACE, "spaces")["README.md"].decode()


def test_deploy_again_updates(hub, root, said):
    space = hub.add(SPACE, {"llpack/old.py": b"", "their/own.txt": b""}, kind="spaces")
    space.variables["LLPACK_WEIGHTS"] = "me/kept"
    deploy(SPACE, root=root, hardware="cpu-basic", report=said.append)
    assert stored(hub, SPACE, "spaces").keys() == NEEDED | {"their/own.txt"}
    assert space.hardware == "cpu-basic"
    assert any("me/kept stays" in line for line in said)


@pytest.mark.parametrize("spec", ["me/none", "me/night@v9", "/some/path"])
def test_deploy_with_weights_that_are_not_there(hub, root, folder, spec):
    hub.add(REPO, files_of(folder))
    with pytest.raises(LlpackError, match="no repository|no revision v9|not a model"):
        deploy(SPACE, weights=spec, root=root)
    assert ("spaces", SPACE) not in hub.repositories


def test_deploy_with_weights_that_are_no_weights(hub, root):
    hub.add(REPO, {"config.json": b"{}", "pytorch_model.bin": b""})
    with pytest.raises(PublishingFailed, match="lacks"):
        deploy(SPACE, weights=REPO, root=root)


def test_dry_run_changes_nothing(hub, root, folder, said):
    hub.add(REPO, files_of(folder))
    link = deploy(SPACE, weights=REPO, hardware="cpu-basic", dry_run=True, root=root,
                  report=said.append)  # fmt: skip
    assert link.endswith(f"/spaces/{SPACE}")
    assert {line.split()[0] for line in hub.requests} == {"GET"}
    text = "\n".join(said)
    assert f"create the public Space {SPACE}" in text and "cpu-basic" in text
    assert f"LLPACK_WEIGHTS={REPO}@" in text
    assert {line.strip() for line in said} >= NEEDED


def stages_shown(said):
    return [line.split()[0] for line in said if line.endswith(" s)")]


@pytest.mark.parametrize("old", ["NO_APP_FILE", "RUNNING", "BUILD_ERROR"])
def test_deploy_waits_for_the_start(hub, root, said, old, monkeypatch):
    monkeypatch.setattr(publishing, "_NOTICE_S", 30.0)
    hub.stages = [old, "BUILDING", "BUILDING", "APP_STARTING", "RUNNING"]
    deploy(SPACE, root=root, poll_s=0.01, report=said.append)
    assert stages_shown(said) == [old, "BUILDING", "APP_STARTING", "RUNNING"]


def test_deploy_of_nothing_new_does_not_wait_for_a_build(hub, root, said):
    deploy(SPACE, root=root, poll_s=0.01, report=said.append)
    assert stages_shown(said) == ["RUNNING"]


@pytest.mark.parametrize(
    ("stage", "log"),
    [("BUILD_ERROR", "build"), ("CONFIG_ERROR", "build"), ("RUNTIME_ERROR", "run")],
)
def test_a_failed_space_shows_the_end_of_its_log(hub, root, said, stage, log):
    hub.stages = ["BUILDING", stage]
    hub.logs[log] = [f"line {i}\n" for i in range(50)] + ["ERROR: no matching distribution\n"]
    with pytest.raises(PublishingFailed, match=stage):
        deploy(SPACE, root=root, poll_s=0.01, report=said.append)
    assert said[-1] == "  ERROR: no matching distribution"
    assert "  line 22" in said and "  line 20" not in said


def test_a_space_that_never_starts(hub, root):
    hub.stages = ["BUILDING"]
    with pytest.raises(PublishingFailed, match="has not started"):
        deploy(SPACE, root=root, poll_s=0.01, timeout_s=0.05, report=lambda line: None)


def test_an_incomplete_checkout(hub, root):
    (root / "LICENSE").unlink()
    with pytest.raises(PublishingFailed, match="lacks LICENSE"):
        deploy(SPACE, root=root)
    (root / "LICENSE").write_text("MIT")
    (root / "README.md").write_text("# no metadata")
    with pytest.raises(PublishingFailed, match="metadata of a Space"):
        deploy(SPACE, root=root)
    assert hub.requests == []
