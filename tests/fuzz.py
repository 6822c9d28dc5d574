"""Damage RAW files in many ways and read each through the real isolated decoder.

    python -m tests.fuzz --seed 1 --count 5000 FILES...

Synthetic DNG files are always among the originals. Every case can be made again from its seed and
number. Prints the counts by outcome, writes them as JSON with --json, and keeps the files of bugs
and crashes with --keep. Exit code 1 if there is a bug: an error that is not for people, or a frame
with values that no frame may have.
"""

import argparse
import collections
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from llpack.dng import CFA_PHASES, write_dng
from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw, UnsupportedSensor
from llpack.isolation import Decoder, DecoderStopped
from llpack.metadata import Exif
from llpack.raw import RawFrame

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
            0xFFFFFFF0, 0xFFFFFFFF)  # fmt: skip
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
HEAD = 4096  # bytes; most of what parsers decide on lies in the first of them
MAX_DIRECTORIES = 16
BUG = "BUG: "  # begins the outcomes that must not be


def main() -> int:
    arguments = _arguments()
    counts: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        originals = [(path.name, path.read_bytes()) for path in arguments.files]
        originals += synthetic_files(Path(folder))
        for number in range(arguments.first, arguments.first + arguments.count):
            case = random.Random(f"{arguments.seed}/{number}")
            name, data = case.choice(originals)
            path = Path(folder, name)
            path.write_bytes(damaged(data, case))
            started = time.monotonic()
            outcome = read_outcome(decoder, path, arguments.timeout)
            slowest = max(slowest, time.monotonic() - started)
            counts[outcome] += 1
            if arguments.keep and ("failed" in outcome or outcome.startswith(BUG)):
                arguments.keep.mkdir(parents=True, exist_ok=True)
                path.rename(arguments.keep / f"{arguments.seed}-{number}-{name}")
                print(number, name, outcome, flush=True)
    report(counts, slowest, arguments)
    return int(any(outcome.startswith(BUG) for outcome in counts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="RAW files to damage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds per file")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--keep", type=Path, help="folder for the files of bugs and crashes")
    return parser.parse_args()


def read_outcome(decoder: Decoder, path: Path, timeout_s: float) -> str:
    """What became of the file, in a few words."""
    started = time.monotonic()
    try:
        frame = decoder.read(path, timeout_s=timeout_s)
    except LlpackError as error:
        outcome = _refusal_outcome(error)
    except Exception as error:  # noqa: BLE001 - finding these is what this is for
        outcome = f"{BUG}{type(error).__name__} for the user"
    else:
        faults = frame_faults(frame)
        outcome = f"{BUG}a frame with {', '.join(faults)}" if faults else "frame, sane"
    if time.monotonic() - started > timeout_s + 5:
        outcome = f"{BUG}hung beyond the limit"
    return outcome


def _refusal_outcome(error: LlpackError) -> str:
    if isinstance(error.__cause__, DecoderStopped):
        return f"the child failed ({error.__cause__}), refused politely"
    if isinstance(error, LimitExceeded):
        kind = "time" if isinstance(error.__cause__, TimeoutError) else "size or memory"
        return f"limit of {kind}"
    if type(error) in (UnreadableRaw, UnsupportedSensor):
        return f"refused: {type(error).__name__}"
    return f"{BUG}{type(error).__name__}: {error.__cause__!r}"


def frame_faults(frame: RawFrame) -> list[str]:
    """What is wrong with a frame, checked apart from the package's own checks."""
    height, width = frame.mosaic.shape
    blacks, gains, matrix = (
        np.array(values, float)
        for values in (frame.black_level, frame.white_balance, frame.camera_to_srgb)
    )
    checks = {
        "a wrong type": frame.mosaic.dtype == np.uint16,
        "a wrong size": height % 2 == width % 2 == 0 and min(height, width) >= 64,
        "too many pixels": frame.megapixels <= 120,
        "one value": frame.mosaic.min() < frame.mosaic.max(),
        "wrong levels": 0 <= blacks.min() <= blacks.max() < frame.white_level <= 65535,
        "wrong gains": gains.min() == 1 and gains.max() <= 33,
        "a wrong matrix": bool(np.abs(matrix).max() <= 8)
        and bool(np.abs(matrix.sum(1) - 1).max() < 1e-3),
        "a wrong orientation": frame.orientation in range(1, 9),
        "a wrong CFA": frame.cfa in CFA_PHASES,
        "long texts": all(len(str(value)) <= 300 for row in frame.summary() for value in row),
    }
    return [fault for fault, sound in checks.items() if not sound]


def report(counts: collections.Counter, slowest: float, arguments: argparse.Namespace) -> None:
    width = max(map(len, counts), default=0)
    for outcome, count in counts.most_common():
        print(f"{outcome:<{width}} {count:6d}")
    print(f"{'all':<{width}} {counts.total():6d}   slowest {slowest:.1f} s")
    if arguments.json:
        summary = {"seed": arguments.seed, "first": arguments.first, "count": counts.total()}
        summary |= {"slowest_s": round(slowest, 2), "outcomes": dict(counts.most_common())}
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")


def synthetic_files(folder: Path) -> list[tuple[str, bytes]]:
    """Small DNG files of every CFA, uncompressed and lossless JPEG."""
    mosaic = np.random.default_rng(0).integers(500, 900, (96, 128), dtype=np.uint16)
    exif = Exif("Acme", "Acme One", "50 mm", 0.1, 2.8, 3200.0, 50.0, "2024:02:03 04:05:06", "A")
    files = []
    for cfa in CFA_PHASES:
        for compress in (False, True):
            path = folder / f"synthetic_{cfa}_{'jpeg' if compress else 'plain'}.dng"
            write_dng(
                path, mosaic, black_level=(512, 510, 511, 513), white_level=16383, cfa=cfa,
                as_shot_neutral=(0.5, 1, 0.6), color_matrix=np.eye(3) * 0.8, orientation=6,
                exif=exif, compress=compress,
            )  # fmt: skip
            files.append((path.name, path.read_bytes()))
    return files


# --- damage ---------------------------------------------------------------------------------------


def damaged(original: bytes, case: random.Random) -> bytes:
    """One to four damages of one file."""
    data = bytearray(original)
    for _ in range(case.choice((1, 1, 2, 4))):
        if len(data) < 16:
            break
        case.choice(DAMAGES)(data, case)
    return bytes(data)


def flip_bits(data: bytearray, case: random.Random) -> None:
    for _ in range(case.choice((1, 3, 20, 200))):
        data[_position(data, case)] ^= 1 << case.randrange(8)


def cut_off(data: bytearray, case: random.Random) -> None:
    del data[case.randrange(16, len(data)) :]


def insert_extreme(data: bytearray, case: random.Random) -> None:
    for _ in range(case.choice((1, 4, 16))):
        size = case.choice((2, 4))
        at = min(_position(data, case) // 2 * 2, len(data) - size)
        _put(data, at, case.choice(EXTREMES), size, case.choice("<>"))


def swap_ranges(data: bytearray, case: random.Random) -> None:
    size = min(case.choice((2, 16, 512)), len(data) // 4)
    first, second = (min(_position(data, case), len(data) - size) for _ in range(2))
    kept = bytes(data[first : first + size])
    data[first : first + size] = data[second : second + size]
    data[second : second + size] = kept


def repeat_or_drop_range(data: bytearray, case: random.Random) -> None:
    at, size = _position(data, case), case.choice((1, 7, 64, 4096))
    data[at : at + size] = bytes(data[at : at + size]) * case.choice((0, 2, 3))


def noise_range(data: bytearray, case: random.Random) -> None:
    at, size = _position(data, case), case.choice((4, 64, 1024))
    size = len(data[at : at + size])
    data[at : at + size] = case.randbytes(size)


def change_tag(data: bytearray, case: random.Random) -> None:
    """Change the number, type, count, offset or a value of TIFF tags."""
    order, entries = tiff_entries(bytes(data))
    for at in case.sample(entries, min(len(entries), case.choice((1, 1, 3)))):
        _, kind, count = struct.unpack_from(order + "HHI", data, at)
        part = case.choice(("number", "type", "count", "offset", "value", "value", "value"))
        if part in ("number", "type"):
            _put(data, at + 2 * (part == "type"), case.choice((*TYPE_SIZES, *EXTREMES)), 2, order)
        elif part in ("count", "offset"):
            near = count + case.choice((-1, 1, 2, 1000))
            value = case.choice((*EXTREMES, near, len(data) - 1, len(data) // 2))
            _put(data, at + (4 if part == "count" else 8), value, 4, order)
        else:
            size = TYPE_SIZES.get(kind, 1)
            start = at + 8
            if size * count > 4:
                (start,) = struct.unpack_from(order + "I", data, at + 8)
            width = min(size, 4)
            start += width * case.randrange(max(1, min(size * count // width, 64)))
            if start + width <= len(data):
                _put(data, start, case.choice(EXTREMES), width, order)


def tiff_entries(data: bytes) -> tuple[str, list[int]]:
    """Byte order, and where each directory entry of a TIFF starts, also in its sub-directories."""
    order = ">" if data.startswith(b"MM") else "<"
    todo = list(struct.unpack_from(order + "I", data, 4))
    seen: set[int] = set()
    entries = []
    while todo and len(seen) < MAX_DIRECTORIES:
        start = todo.pop()
        if start == 0 or start in seen or start + 2 > len(data):
            continue
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", data, start)
        found = [start + 2 + 12 * index for index in range(min(count, 200))]
        found = [at for at in found if at + 16 <= len(data)]
        entries += found
        for at in found:
            tag, _, _, value = struct.unpack_from(order + "HHII", data, at)
            if tag in (330, 34665):  # SubIFDs, Exif
                todo.append(value)
        if found:
            todo += struct.unpack_from(order + "I", data, found[-1] + 12)
    return order, entries


def _position(data: bytearray, case: random.Random) -> int:
    """Somewhere: often in the head, or in the tail, where CRW files keep their directory."""
    start, end = case.choice(((0, 64), (0, HEAD), (0, HEAD), (len(data) - HEAD, len(data)),
                              (0, len(data))))  # fmt: skip
    return case.randrange(max(0, start), min(end, len(data)))


def _put(data: bytearray, at: int, value: int, size: int, order: str) -> None:
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits, cut_off, insert_extreme, insert_extreme, swap_ranges, repeat_or_drop_range,
    noise_range, change_tag, change_tag, change_tag, change_tag,
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
