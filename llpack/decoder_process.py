"""The process in which strangers' files are decoded: ``python -m llpack.decoder_process``.

Started and fed by llpack.isolation. One request per line on stdin, one answer per line on stdout,
both JSON; pixels go into the file ``out/pixels`` of the working folder, which the server has open.
"""

import json
import os
import sys
import time
from pathlib import Path

from llpack import confinement

IN, OUT, PIXELS = "in", "out", "pixels"  # of the working folder
SPACE = "Free some of the temporary disk, or try again in an hour."


def main(memory_mb: int, largest_file: int) -> None:
    answers = _take_over_stdout()
    confinement.limit_resources(memory_mb, largest_file)
    confinement.give_up_privileges()
    # Imported behind the limits, but before files are out of reach.
    import rawpy  # noqa: F401 - read_raw would import it for the first file

    from llpack.errors import LimitExceeded, LlpackError
    from llpack.handover import frame_header, refusal_header
    from llpack.raw import read_raw

    time.localtime()  # reads the time zone's file, for the date that LibRaw gives
    folder = Path.cwd()
    code = {sys.prefix, sys.base_prefix, *filter(None, sys.path)}
    confinement.restrict_files([*code, str(folder / IN)], str(folder / OUT))

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        confinement.allow_cpu_seconds(request["cpu_seconds"])
        try:
            frame = read_raw(folder / IN / request["name"])
            with open(folder / OUT / PIXELS, "r+b", buffering=0) as file:
                frame.mosaic.astype("<u2", copy=False).tofile(file)
            answer = frame_header(frame)
        except LlpackError as refusal:
            answer = refusal_header(refusal)
        except OSError:  # of the pixels: reading the file raises refusals only
            full = f"There is no space to decode {request['name']}. {SPACE}"
            answer = refusal_header(LimitExceeded(full))
        print(json.dumps(answer), file=answers, flush=True)


def _take_over_stdout():
    """stdout for the answers alone: what LibRaw prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


if __name__ == "__main__":
    main(memory_mb=int(sys.argv[1]), largest_file=int(sys.argv[2]))
