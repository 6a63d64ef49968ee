"""One run at a time in a folder, in whatever way the other one ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strokes.errors import StrokesError
from strokes.recipes.lock import RunLock

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys, time
from pathlib import Path
from strokes.recipes.lock import RunLock
with RunLock(Path(sys.argv[1])):
    if len(sys.argv) > 2 and not os.fork():  # a worker process that outlives its run
        os.write(1, b"forked\\n")
        time.sleep(20)
        os._exit(0)
    os.write(1, b"held\\n")
    time.sleep(60)
"""


def holder(path, *more):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *more], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for _ in range(1 + len(more)):
        assert process.stdout.readline().strip() in ("held", "forked")
    return process


def test_a_second_run_ends_with_the_process_that_holds_the_folder(tmp_path):
    path = tmp_path / "lock"
    other = holder(path)
    try:
        with pytest.raises(
            StrokesError, match=rf"{tmp_path} is in use .*process {other.pid} on {socket.gethostname()}"
        ):
            RunLock(path).__enter__()
        assert path.exists(), "the refused run left the other's lock"
    finally:
        other.kill()
        other.wait()
    with RunLock(path):
        assert f"process {os.getpid()} " in path.read_text()


def test_two_runs_of_one_process_exclude_each_other_too(tmp_path):
    with RunLock(tmp_path / "lock"), pytest.raises(StrokesError, match=f"process {os.getpid()} "):
        RunLock(tmp_path / "lock").__enter__()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, how):
    other = holder(tmp_path / "lock")
    other.send_signal(how)
    other.wait()
    with RunLock(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_worker_that_outlives_a_killed_run_holds_no_lock(tmp_path):
    other = holder(tmp_path / "lock", "with a worker")
    other.kill()
    other.wait()
    began = time.monotonic()
    with RunLock(tmp_path / "lock"):
        assert time.monotonic() - began < 5


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), RunLock(tmp_path / "lock"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(StrokesError, match=r"cannot write .*lock"):
        RunLock(tmp_path / "lock").__enter__()
