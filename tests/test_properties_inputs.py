"""Whatever the Hub, a weights folder or the command line is given: a result, or one sentence."""

import contextlib
import hashlib
import io
import json
import re
import tempfile
from argparse import ArgumentTypeError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_weights import CONFIG, random_tensors, write_folder

from llpack import batch, cli, weights
from llpack.dng import write_dng
from llpack.errors import LlpackError, MissingWeights, WeightsMismatch
from llpack.hub import parse_name
from llpack.weights import load_weights, read_config

quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
)
pure = settings(quick, max_examples=150)

# Texts that are nearly names, numbers, options or paths; half of them say more than any text.
ALPHABET = "abN/@.-_~%: \\\n\0\u202e\udce9é夜019+e"
near_texts = st.text(alphabet=ALPHABET, max_size=30) | st.text(max_size=30)
specs = st.one_of(
    near_texts,
    st.builds("{}/{}@{}".format, *[st.text(alphabet="ab.-_/0", max_size=8)] * 3),
    st.sampled_from(["../../etc/passwd", "a/b@../../x", "a/..", "https://a.org/x", "~\0", "a/b@main"]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TENSORS = random_tensors()
SENTENCE = re.compile(r"[^\n]{10,700}")


def assert_sentence(error: LlpackError, folder: str = "") -> None:
    text = str(error).replace(folder, "")
    assert SENTENCE.fullmatch(text) and "Traceback" not in text, text
    assert text.isprintable()


# --- the Hub and weights folders ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("weights") / "embedded")


@pytest.fixture
def offline(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pure
@given(spec=specs)
def test_any_name_of_weights_is_refused_or_falls_back(offline, spec):
    try:
        loaded = load_weights(spec)
    except (MissingWeights, WeightsMismatch):
        assert parse_name(spec) is None or "/" not in spec or Path(spec).suffix or Path(spec).exists()
    else:
        assert loaded.source == "embedded"
        assert spec in ("", "embedded", "paper") or loaded.notes


@pure
@given(spec=specs)
def test_names_lead_nowhere_else(spec):
    if (found := parse_name(spec)) is not None:
        for part in "/".join(filter(None, found)).split("/"):
            assert part not in ("", ".", "..") and part.isascii() and part.isprintable()
            assert not set(part) & set("\\%:~ ")


config_texts = st.one_of(
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda key, value: json.dumps(CONFIG | {"sha256": "0" * 64, key: value}).encode(),
        st.sampled_from([*CONFIG, "sha256", "more"]),
        values,
    ),
    st.integers(1, 200_000).map(lambda depth: b'{"format":' + b"[" * depth),
    st.just(b'{"format": ' + b"9" * 6000 + b"}"),
)


@pure
@given(data=config_texts)
def test_any_config_is_sound_or_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_bytes(data)
        try:
            config = read_config(path)
        except WeightsMismatch as error:
            return assert_sentence(error, folder)
    assert config["name"].isprintable() and 0 < len(config["name"]) <= 100
    assert (config["format"], config["convention"] in ("camera", "srgb")) == (1, True)


def safetensors_file(header: object, data: bytes, length: int | None = None) -> bytes:
    """By the format's description: the header's length in 8 bytes, the header as JSON, the data."""
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


offsets = st.sampled_from([0, 4, 8, 256, 2**40, 2**64 - 1, -1])
hostile_tensor = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "U64", "C64", "?"]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 64, 2**31, 2**63, -1]), max_size=70),
        "data_offsets": st.tuples(offsets, offsets),
    }
)
names = st.sampled_from(["RDBr.bias", "RDBr.weight", "__metadata__"]) | st.text(max_size=200)
headers = values | st.dictionaries(names, hostile_tensor | values, max_size=4)


@pure
@given(headers, st.sampled_from([0, 4, 256, 1000]), st.none() | st.integers(0, 2**64 - 1))
def test_any_tensors_are_refused(header, size, length):
    data = safetensors_file(header, bytes(size), length)
    config = CONFIG | {"sha256": hashlib.sha256(data).hexdigest()}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        (Path(folder) / "model.safetensors").write_bytes(data)
        with pytest.raises(WeightsMismatch) as caught:
            load_weights(folder)
    assert_sentence(caught.value, folder)


texts = st.text(max_size=300)
CHANGES = {
    "double": lambda tensor: tensor.double(),
    "half": lambda tensor: tensor.half(),
    "one less": lambda tensor: tensor.flatten()[:-1],
    "one more side": lambda tensor: tensor[None],
    "none": lambda tensor: tensor[:0],
    "not a number": lambda tensor: torch.full_like(tensor, torch.nan),
    "infinite": lambda tensor: torch.full_like(tensor, -torch.inf),
}


@quick
@given(st.sampled_from(sorted(TENSORS)), st.none() | texts, st.sampled_from(sorted(CHANGES)))
def test_tensors_of_another_name_shape_type_or_value_are_refused(key, added, change):
    """Changed where they are, or added under another name."""
    key, changed = added or key, CHANGES[change](TENSORS[key]).clone()
    with tempfile.TemporaryDirectory() as folder:
        weights.save_weights(Path(folder), TENSORS | {key: changed}, CONFIG)
        with pytest.raises(WeightsMismatch) as caught:
            load_weights(folder)
    assert_sentence(caught.value, folder)


# --- the command line ---


@pytest.fixture(scope="module")
def dark(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dark") / "dark.dng"
    mosaic = np.random.default_rng(0).integers(500, 900, (64, 64), dtype=np.uint16)
    write_dng(path, mosaic, black_level=(512,) * 4, white_level=4095, as_shot_neutral=(0.5, 1, 0.6),
              color_matrix=np.eye(3))  # fmt: skip
    return path


@pytest.fixture
def ready(monkeypatch):
    """A restorer that gives the same picture at once."""
    restored = SimpleNamespace(
        picture=np.zeros((64, 64, 3), np.uint8),
        amplification=20.0,
        amplification_source="chosen",
        megapixels_per_second=1.0,
    )
    restorer = SimpleNamespace(
        restore=lambda *arguments, **options: restored,
        precision="float32",
        weights=SimpleNamespace(name="a name", source="a test", notes=()),
    )
    monkeypatch.setattr(batch, "load_restorer", lambda spec, precision: restorer)


def run(*arguments: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
    assert "Traceback" not in said.getvalue()
    return code, said.getvalue()


@pure
@given(text=near_texts | st.floats().map(repr) | st.integers().map(str))
def test_any_amplification_is_a_number_or_refused(text):
    try:
        factor = cli._amplification(text)
    except ArgumentTypeError as error:
        assert text in str(error) or repr(text) in str(error)
    else:
        assert factor is None or factor == float(text) or factor != factor


@pure
@given(text=near_texts | st.builds("{}x{}".format, st.integers(), st.integers()))
def test_any_size_is_even_and_large_enough_or_refused(text):
    with contextlib.suppress(ArgumentTypeError):
        assert all(side >= 64 and side % 2 == 0 for side in cli._size(text))


# No NUL: no system hands it to a program.
words = near_texts.map(lambda text: text.replace("\0", "")) | st.sampled_from(
    ["restore", "inspect", "darken", "--amplification", "auto", "-o", "--format", "tiff", "--size"]
)


@quick
@given(arguments=st.lists(words, max_size=6))
def test_any_arguments_end_with_an_exit_code(ready, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, said = run(*arguments)
    assert code in (0, 2)
    assert said


@quick
@given(name=words)
def test_any_output_name_holds_the_picture_or_is_refused(ready, dark, name):
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/{name.replace('/', '|').replace('..', '')}"
        before = dark.read_bytes()
        code, said = run("restore", str(dark), "-o", output)
        made = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert code in (0, 2) and said
        assert len(made) == (code == 0), said
        assert all(path.read_bytes()[:2] in (b"\xff\xd8", b"\x89P", b"II") for path in made)
        assert dark.read_bytes() == before
        assert code == 0 or "could not be" in said or "is a file" in said
