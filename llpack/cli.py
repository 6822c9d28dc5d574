"""The command line: restore, inspect, darken, train, evaluate, bench, push, deploy.

Each command translates its arguments, calls one function of the package and prints what it says.
Heavy modules are imported by the command that needs them, so that `--help` is instant.
"""

import argparse
import sys
import traceback
from pathlib import Path

from llpack.errors import LlpackError, OutputError

EXIT_FAILED = 2  # something was refused or could not be done; the message says what


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 when any of its files failed."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LlpackError as error:
        return _refuse(error, options)
    except OSError as error:
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}", options)
    except KeyboardInterrupt:
        print("Stopped. Finished files are complete; run the same command to go on.")
        return EXIT_FAILED


def _refuse(error, options) -> int:
    if options.traceback:
        traceback.print_exc()
    print(f"llpack: {error}", file=sys.stderr)
    return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llpack", description=__doc__.split("\n")[0])
    _add_traceback(parser)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    restore = _command(commands, "restore", _restore, "restore dark RAW files to pictures")
    restore.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="RAW files or folders")
    restore.add_argument("-o", "--output", type=Path, required=True, help="file or folder")
    restore.add_argument(
        "--amplification", type=_amplification, default=None, metavar="auto|N",
        help="factor from 1 to 1000, or auto: estimated from the file (default)",
    )  # fmt: skip
    restore.add_argument("--format", choices=("jpg", "png", "tiff"), help="default: jpg")
    restore.add_argument("--overwrite", action="store_true", help="replace existing pictures")
    restore.add_argument(  # `precision.PRECISIONS`, for which PyTorch would be imported here
        "--precision", choices=("int8", "bfloat16", "float32"),
        help="default: the fastest whose picture is right on this machine",
    )  # fmt: skip
    _add_weights(restore)

    inspect = _command(commands, "inspect", _inspect, "print what is read from a RAW file")
    inspect.add_argument("file", type=Path)

    darken = _command(commands, "darken", _darken, "make a dark RAW file from a photo")
    darken.add_argument("photo", type=Path)
    darken.add_argument("-o", "--output", type=Path, required=True, help="DNG file to write")
    darken.add_argument("--ratio", type=float, required=True, help="1/ratio of the light is left")
    darken.add_argument("--iso", type=float, required=True, help="100 to 25600")
    darken.add_argument("--camera", default="Sony A7S II", help="whose noise and colours")
    darken.add_argument("--size", type=_size, metavar="WxH", help="cut and resize to this size")
    darken.add_argument("--orientation", type=int, choices=(1, 3, 6, 8), default=1,
                        help="how the camera was held (EXIF)")  # fmt: skip
    darken.add_argument("--seed", type=int, default=0)
    darken.add_argument("--overwrite", action="store_true", help="replace an existing file")

    train = _command(commands, "train", _train, "train on photos, on real pairs, or both")
    train.add_argument("photos", nargs="?", default="", help="folder of clean photos")
    train.add_argument("--pairs", default="", metavar="SID", help="See-in-the-Dark (Sony/short, long)")
    train.add_argument("--pair-share", type=_share, default=0.5, help="of patches beside photos'")
    train.add_argument("-o", "--output", type=Path, required=True, help="run folder; resumed from")
    train.add_argument("--steps", type=int, default=19000)
    train.add_argument("--batch", type=int, default=8, help="patches of 256x256 a step")
    train.add_argument("--name", default="llpack-detail", help="name of the weights")
    _add_evaluate(commands)
    _add_bench(commands)
    _add_publishing(commands)
    return parser


def _add_evaluate(commands) -> None:
    evaluate = _command(commands, "evaluate", _evaluate, "score the network on photos or on SID")
    evaluate.add_argument("folder", type=Path, help="photos, or See-in-the-Dark (Sony/short, long)")
    evaluate.add_argument("-o", "--output", type=Path, required=True, help="folder for the report")
    evaluate.add_argument("--all-photos", action="store_true", help="not only the held-out ones")
    evaluate.add_argument("--size", type=int, default=1024, help="long side; 0 keeps the photo's")
    evaluate.add_argument("--nlm", action="store_true", help="also LibRaw + non-local means (slow)")
    evaluate.add_argument("--pictures", action="store_true", help="keep the scored pictures")
    evaluate.add_argument("--sheet", type=Path, metavar="FILE", help="write 100 %% crops to FILE")
    evaluate.add_argument("--text", action="store_true", help="also words that tesseract reads")
    _add_weights(evaluate)


def _add_bench(commands) -> None:
    bench = _command(commands, "bench", _bench, "measure speed and memory against peers")
    bench.add_argument("-o", "--output", type=Path, help="write everything measured as JSON")
    bench.add_argument("--chart", type=Path, help="draw the main figures to an SVG or PNG file")
    bench.add_argument(
        "--sizes", type=int, nargs="*", default=[3, 12, 24, 45, 61], choices=(3, 12, 24, 45, 61),
        help="megapixels to measure growth at",
    )  # fmt: skip


def _add_publishing(commands) -> None:
    push = _command(commands, "push", _push, "publish weights as a model repository on the Hub")
    push.add_argument("repo", metavar="OWNER/NAME")
    source = push.add_mutually_exclusive_group()
    source.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER",
        help="weights folder; default: embedded",
    )  # fmt: skip
    source.add_argument(
        "--from-checkpoint", dest="source", type=Path, metavar="FILE",
        help="an authors' checkpoint, which is converted",
    )  # fmt: skip
    push.add_argument("--private", action="store_true")

    deploy = _command(commands, "deploy", _deploy, "create or update a Space with this demo")
    deploy.add_argument("space", metavar="OWNER/SPACE")
    deploy.add_argument("--weights", metavar="OWNER/NAME", help="model repository to use")
    deploy.add_argument("--hardware", help="for example cpu-basic or zero-a10g")
    deploy.add_argument("--private", action="store_true")
    deploy.add_argument("--dry-run", action="store_true", help="only list what would be done")


def _command(commands, name: str, run, help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help)
    command.set_defaults(run=run)
    _add_traceback(command, default=argparse.SUPPRESS)  # keeps what was said before the command
    return command


def _add_traceback(parser: argparse.ArgumentParser, **options) -> None:
    parser.add_argument("--traceback", action="store_true", help="show where an error arose", **options)


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights", help="path, owner/name[@revision] on the Hub, or 'paper'; default: embedded"
    )


def _amplification(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 'auto' nor a number") from None


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share from 0 to 1")
    return share


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        size = int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 4256x2848") from None
    if min(size) < 64 or any(side % 2 for side in size):
        raise argparse.ArgumentTypeError("a size needs even sides from 64 pixels up")
    return size


def _restore(options) -> int:
    from llpack.batch import restore_all

    return restore_all(
        options.inputs,
        options.output,
        amplification=options.amplification,
        format=options.format,
        overwrite=options.overwrite,
        weights=options.weights,
        precision=options.precision,
    )


def _inspect(options) -> int:
    from llpack.raw import read_raw

    for label, value in read_raw(options.file).summary():
        print(f"{label:<15} {value}")
    return 0


def _darken(options) -> int:
    from llpack.synthetic import darken, fit_photo, open_photo, write_dark

    if options.output.exists() and not options.overwrite:
        raise OutputError(f"{options.output} exists already; --overwrite replaces it.")
    photo = open_photo(options.photo)
    if options.size:
        photo = fit_photo(photo, options.size)
    frame = darken(
        photo,
        camera=options.camera,
        iso=options.iso,
        ratio=options.ratio,
        seed=options.seed,
        orientation=options.orientation,
    )
    write_dark(options.output, frame, options.camera)
    print(f"{options.output}: {frame.width} x {frame.height}, x1/{options.ratio:g} of the light")
    return 0


def _train(options) -> int:
    from llpack.training import Recipe, train

    recipe = Recipe(
        options.photos,
        options.steps,
        options.batch,
        pairs=options.pairs,
        pair_share=options.pair_share,
    )
    train(recipe, options.output, options.name)
    return 0


def _evaluate(options) -> int:
    from llpack.evaluation import run_evaluation

    return run_evaluation(
        options.folder,
        options.output,
        weights=options.weights,
        all_photos=options.all_photos,
        long_side=options.size or None,
        non_local_means=options.nlm,
        pictures=options.pictures,
        sheet_file=options.sheet,
        text=options.text,
    )


def _bench(options) -> int:
    import json

    from llpack.benchmark import bench
    from llpack.chart import draw

    results = bench(options.sizes)
    for name, ratio in results["ratios"].items():
        low, high = results["ranges"][name]
        print(f"{name}: {ratio:.2f} ({low:.2f} to {high:.2f})")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))
    if options.chart:
        draw(results, options.chart)
    return 0


def _push(options) -> int:
    from llpack.publishing import push
    from llpack.weights import EMBEDDED

    push(options.source or EMBEDDED, options.repo, private=options.private)
    return 0


def _deploy(options) -> int:
    from llpack.publishing import deploy

    deploy(
        options.space,
        weights=options.weights,
        hardware=options.hardware,
        private=options.private,
        dry_run=options.dry_run,
    )
    return 0
