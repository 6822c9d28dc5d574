"""`python -m llpack ...`, see `cli`."""

import signal
import sys

from llpack.cli import main

# A system that shuts down stops like Ctrl-C: nothing half done is left.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# File names can be in encodings that the terminal does not have.
sys.stdout.reconfigure(errors="replace")
sys.exit(main())
