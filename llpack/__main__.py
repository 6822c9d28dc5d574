"""`python -m llpack ...`, see `cli`."""

import sys

from llpack.cli import main

sys.exit(main())
