"""What the README tells people to type works as it is printed."""

import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from tiny_demo import served

TEXT = (REPOSITORY / "README.md").read_text()
FRONT_MATTER = dict(re.findall(r"^(\w+): \"?([^\"\n]+)\"?$", TEXT.split("---")[1], re.MULTILINE))


def snippet(word: str) -> str:
    """The Python snippet of the README that contains a word."""
    return next(code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if word in code)


def test_the_space_gets_the_pinned_gradio():
    assert f"gradio=={FRONT_MATTER['sdk_version']}" in (REPOSITORY / "requirements.txt").read_text()
    assert (REPOSITORY / FRONT_MATTER["app_file"]).exists()
    assert len(FRONT_MATTER["short_description"]) <= 60


def test_every_command_exists():
    shown = set(re.findall(r"python -m llpack (\w+)", TEXT))
    usage = subprocess.run(
        [sys.executable, "-m", "llpack", "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert shown
    assert all(re.search(rf"^ +{name} ", usage.stdout, re.MULTILINE) for name in shown)


def test_the_library_snippet_runs(tmp_path, monkeypatch):
    code = snippet("read_raw").replace("night.arw", str(REPOSITORY / "examples" / "dogs.dng"))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "night.jpg").stat().st_size > 100_000


def test_the_client_snippet_runs(tmp_path, capsys):
    with served(tmp_path) as demo:
        code = snippet("gradio_client").replace("http://127.0.0.1:7860", demo.url)
        exec(code.replace("examples/dogs.dng", str(demo.examples / "first.dng")), {})
    assert "network" in capsys.readouterr().out


@pytest.mark.parametrize("name", re.findall(r"\]\(([\w./]+)\)", TEXT))
def test_links_lead_somewhere(name):
    assert (REPOSITORY / name).exists()
