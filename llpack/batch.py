"""Many files in one go, for the command line: nothing is lost, nothing is overwritten by mistake.

A picture appears under its name only when it is complete, so an interrupted run can be repeated and
does what is missing.
"""

import contextlib
import re
import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from llpack.engine import Restorer, Stages, load_restorer
from llpack.errors import LlpackError, UnreadableRaw
from llpack.files import FORMATS, write_picture
from llpack.isolation import read_raw_isolated
from llpack.raw import RAW_SUFFIXES

LEFTOVER = re.compile(r"\.[0-9a-f]{8}\.part")  # what `write_picture` calls unfinished files
LEFTOVER_S = 60  # writing a picture takes a second

_FORMAT_OF_SUFFIX = {"jpeg": "jpg", "tif": "tiff"} | {name: name for name in FORMATS}

# Endings that mean a picture, but none of ours: not the name of a folder.
_OTHER_PICTURES = {".webp", ".avif", ".heic", ".jxl", ".jp2", ".bmp", ".gif", ".exr", ".psd"}


def restore_all(
    inputs: list[Path],
    output: Path,
    *,
    amplification: float | None,
    format: str | None,
    overwrite: bool,
    weights: str | None,
    precision: str | None = None,
) -> int:
    """Restore files and the RAW files of folders; returns the exit code: 0, or 2 if any failed.

    `output` is a picture's name for a single file, else a folder, made when it is missing.
    """
    jobs = plan(find_raws(inputs), output, format)
    waiting = [job for job in jobs if overwrite or not job[1].exists()]
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} already there, left alone (--overwrite replaces them).")
    if not waiting:
        return 0
    _remove_leftovers({target.parent for _, target, _ in waiting})
    restorer = load_restorer(weights, precision)
    print(f"Weights: {restorer.weights.name}, {restorer.weights.source}; in {restorer.precision}")
    for note in restorer.weights.notes:
        print(note)
    failures = 0
    with tqdm(waiting, unit="file", disable=not sys.stderr.isatty()) as progress:
        for source, target, kind in progress:
            try:
                line = _restore_one(restorer, source, target, kind, amplification)
            # The last two: whatever one file does to the libraries, the others get their turn.
            except (LlpackError, OSError, RuntimeError, MemoryError) as error:
                failures += 1
                line = f"{source}: {error}"
            progress.write(line, file=sys.stdout)
    if failures:
        print(f"{failures} of {len(waiting)} files could not be restored.")
    return 2 if failures else 0


def _remove_leftovers(folders: set[Path]) -> None:
    """What a run that was killed, or a power cut, left in the output folders."""
    for path in (path for folder in folders for path in folder.glob(".*.part")):
        with contextlib.suppress(OSError):
            if LEFTOVER.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFTOVER_S:
                path.unlink()


def _restore_one(
    restorer: Restorer, source: Path, target: Path, kind: str, amplification: float | None
) -> str:
    stages = Stages()
    with stages("read"):
        frame = read_raw_isolated(source)
    restored = restorer.restore(frame, amplification, bits=FORMATS[kind], stages=stages)
    target.parent.mkdir(parents=True, exist_ok=True)
    with stages("encode"):
        write_picture(target, restored.picture, frame.exif, format=kind)
    notes = "".join(f"\n  {note}" for note in frame.notes)
    return (
        f"{target}: x{restored.amplification:.4g} ({restored.amplification_source}), "
        f"{stages.total:.2f} s, {restored.megapixels_per_second:.1f} MP/s{notes}"
    )


def find_raws(inputs: list[Path]) -> list[Path]:
    """The given files, and of given folders the files with a RAW file's ending, by name.

    Raises UnreadableRaw when a path does not exist or when nothing is found.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += sorted(filter(_looks_like_raw, path.iterdir()))
        elif path.exists():
            found.append(path)
        else:
            raise UnreadableRaw(f"{path} does not exist. Check the name.")
    if not found:
        raise UnreadableRaw(f"No RAW files in {', '.join(map(str, inputs))}.")
    return list(dict.fromkeys(found))


def _looks_like_raw(path: Path) -> bool:
    """Hidden files are left out: a Mac puts a "._" file beside every file on a memory card."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in RAW_SUFFIXES and path.is_file() and not hidden


def plan(sources: list[Path], output: Path, format: str | None) -> list[tuple[Path, Path, str]]:
    """(RAW file, picture, format) for each file; two files never get the same name.

    Raises LlpackError when the output's ending and `format` disagree, or when several files would
    go into what is no folder.
    """
    named = _FORMAT_OF_SUFFIX.get(output.suffix.lower().lstrip("."))
    if len(sources) == 1 and named and not output.is_dir():
        if format not in (None, named):
            raise LlpackError(f"{output.name} does not end in .{format}: change one of them.")
        return [(sources[0], output, named)]
    if named and not output.is_dir():
        raise LlpackError(f"{output.name} can hold one picture, not {len(sources)}: name a folder.")
    if output.suffix.lower() in _OTHER_PICTURES and not output.is_dir():
        raise LlpackError(f"{output.name} cannot be written: choose jpg, png or tiff.")
    if output.exists() and not output.is_dir():
        raise LlpackError(f"{output} is a file: name a folder, or a picture such as night.jpg.")
    kind = format or "jpg"
    stems = Counter(source.stem.lower() for source in sources)
    names = [s.stem if stems[s.stem.lower()] == 1 else s.name for s in sources]
    taken: set[str] = set()
    jobs = []
    for source, name in zip(sources, names, strict=True):
        free, number = name, 1
        while free.lower() in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free.lower())
        jobs.append((source, output / f"{free}.{kind}", kind))
    return jobs
