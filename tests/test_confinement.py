"""What a process can still do after it has given everything up."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import REPOSITORY

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@linux
def test_endless_computing_meets_the_cpu_limit():
    code = "from llpack.confinement import *\nallow_cpu_seconds(0.2)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=20, check=False)
    assert done.returncode == -signal.SIGXCPU


PROBES = """
import os, socket, sys
from llpack import confinement
confinement.give_up_privileges()
code = [sys.prefix, sys.base_prefix, os.getcwd()]
if not confinement.restrict_files([*code, sys.argv[1] + "/in"], sys.argv[1] + "/out"):
    sys.exit("no Landlock")
probes = {
    "read in": lambda: open(sys.argv[1] + "/in/file").read(),
    "write out": lambda: open(sys.argv[1] + "/out/pixels", "r+").write("1"),
    "write in": lambda: open(sys.argv[1] + "/in/file", "a"),
    "new file": lambda: open(sys.argv[1] + "/out/new", "w"),
    "another upload": lambda: open(sys.argv[1] + "/other").read(),
    "the server's environment": lambda: open(f"/proc/{os.getppid()}/environ").read(),
    "run a program": lambda: os.execv("/bin/sh", ["sh"]),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1),
}
for name, probe in probes.items():
    try:
        probe()
        print(name)
    except OSError:
        pass
"""


@linux
def test_a_child_that_is_taken_over_reaches_nothing_but_its_file(tmp_path):
    for name in ("in/file", "out/pixels", "other"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROBES, str(tmp_path), str(server.getsockname()[1])],
            cwd=REPOSITORY, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    if "no Landlock" in done.stderr:
        pytest.skip("this kernel has no Landlock")
    reached = done.stdout.splitlines()
    if "connect" in reached:  # Landlock before version 4 and no namespaces: see SECURITY.md
        reached.remove("connect")
    assert reached == ["read in", "write out"], done.stderr
