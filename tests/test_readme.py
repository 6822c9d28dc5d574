"""What the README tells people to type works as it is printed."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version

import pytest
from conftest import REPOSITORY
from packaging.specifiers import SpecifierSet
from tiny_demo import served

import app
from llpack.weights import DEADLINE_S

TEXT = (REPOSITORY / "README.md").read_text()
FRONT_MATTER = dict(re.findall(r"^(\w+): \"?([^\"\n]+)\"?$", TEXT.split("---")[1], re.MULTILINE))


def snippet(word: str) -> str:
    """The Python snippet of the README that contains a word."""
    return next(code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if word in code)


def pins(name: str) -> dict[str, tuple[str, str]]:
    """Package -> (version, reason) of a requirements file; its other lines are empty or comments."""
    lines = (REPOSITORY / name).read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "-r "))]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==([\d.]+)  # (.+)", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match[1]: match.groups()[1:] for match in found}


def test_the_space_gets_what_the_tests_ran_with():
    space, tests = pins("requirements.txt"), pins("requirements-dev.txt")
    assert FRONT_MATTER["sdk_version"] == space["gradio"][0] == tests["gradio"][0]
    for package, (pinned, _) in (space | tests).items():
        assert version(package).partition("+")[0] == pinned, package


def test_the_spaces_python_is_one_that_the_package_and_its_pins_take():
    python = FRONT_MATTER["python_version"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert python in SpecifierSet(project["requires-python"])
    for package in pins("requirements.txt"):
        # With the newest patch, as the platform has it: some packages leave out the first ones.
        assert f"{python}.99" in SpecifierSet(metadata(package).get("Requires-Python") or ""), package


def test_the_space_has_a_file_to_start_and_a_short_description():
    assert (REPOSITORY / FRONT_MATTER["app_file"]).exists()
    assert len(FRONT_MATTER["short_description"]) <= 60


def test_the_hubs_deadlines_are_the_true_ones():
    said = f"{DEADLINE_S:g} seconds to answer, {app.HUB_DEADLINE_S:g} when the page starts"
    assert said in " ".join(TEXT.split())


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
