"""`python -m llpack ...`, see `cli`."""

import sys

from llpack.cli import main

# File names can be in encodings that the terminal does not have.
sys.stdout.reconfigure(errors="replace")
sys.exit(main())
