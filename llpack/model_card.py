"""The model card of published weights: metadata for the Hub, and words for people."""

from llpack.errors import PublishingFailed

LICENSE = "mit"
TAGS = ("llpack", "low-light", "raw", "image-restoration", "computational-photography")
_CITATION = """\
@inproceedings{lamba2020llpacknet,
  title     = {Towards Fast and Light-Weight Restoration of Dark Images},
  author    = {Lamba, Mohit and Balaji, Atul and Mitra, Kaushik},
  booktitle = {British Machine Vision Conference (BMVC)},
  year      = {2020}
}
"""
_ARCHITECTURES = {
    "detail": "LLPackNet with llpack's detail path (DetailNet)",
    "paper": "LLPackNet, the network of the paper",
}
_CONVENTIONS = {
    "camera": "an amplified, white-balanced RGGB mosaic in, square-root-encoded camera RGB out",
    "srgb": "an amplified RGGB mosaic without white balance in, display sRGB out, as the authors "
    "have it",
}


def model_card(config: dict, repo: str, body: str | None = None) -> str:
    """The text of README.md for the repository `repo`.

    config: config.json of the weights. body: the text that comes with the weights (with the
    measured table and the limits), whose own licence, tags and other metadata are kept; without
    it, a short text is made from the config.

    Raises PublishingFailed when the metadata of `body` cannot be read.
    """
    card = _read_card(body if body is not None else _text(config, repo))
    tags = card.data.get("tags") or ()
    metadata = {
        "library_name": "llpack",
        "pipeline_tag": "image-to-image",
        "license": card.data.get("license") or LICENSE,
        "tags": sorted({*TAGS, *([tags] if isinstance(tags, str) else tags)}),
    }
    for key, value in metadata.items():
        card.data[key] = value
    return str(card)


def _read_card(text: str):
    from huggingface_hub import RepoCard

    if not text.lstrip().startswith("---"):  # the client warns of a card without metadata
        text = f"---\nlicense: {LICENSE}\n---\n{text}"
    try:
        return RepoCard(text)
    except Exception as error:  # ValueError, or what the YAML parser of the day raises
        raise PublishingFailed(
            "The README.md of the weights begins with metadata that are not valid YAML: correct the "
            "lines between the two ---."
        ) from error


def _text(config: dict, repo: str) -> str:
    training = config.get("training") or {}
    return f"""
# {config["name"]}

Weights for [LLPackNet](https://arxiv.org/abs/2011.14133), which restores extremely dark RAW
photographs on a CPU, in the format of llpack: `model.safetensors` and `config.json` with its
SHA-256.

```python
import llpack

restorer = llpack.load_restorer("{repo}")
restored = restorer.restore(llpack.read_raw("night.arw"))
```

- Architecture: {_ARCHITECTURES[config["architecture"]]}, {config["output"]} output.
- Convention: {_CONVENTIONS[config["convention"]]}.
- Amplification: {"estimated from the mosaic" if config["amplifier"] else "must be given"}.

## Where they come from

{_origin(training)}

## How good they are

Not measured for this card. `python -m llpack evaluate` measures them.

## Limits

For Bayer sensors. What is too dark to be seen is guessed, not recovered: do not use results as
evidence.{_LIMITS[config["convention"]]}

## Citation

```bibtex
{_CITATION}```
"""


_LIMITS = {
    "camera": "",
    "srgb": " These weights draw the colours of the camera that they were trained for, which is"
    " the Sony A7S II if they are the authors' own.",
}


def _origin(training: dict) -> str:
    if "checkpoint" in training:
        return (
            f"Converted from the checkpoint `{training['checkpoint']}` (SHA-256 "
            f"`{training['checkpoint_sha256']}`), which has the layout of the authors' code, "
            "https://github.com/MohitLamba94/LLPackNet (MIT licence)."
        )
    lines = [f"- {key}: {value}" for key, value in training.items()]
    return "\n".join(lines) or "The config says nothing about the training."
