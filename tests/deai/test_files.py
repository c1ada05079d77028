"""Files are there whole or not at all: after a kill, on a full disk, between two writers."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deai.files import create_file, replace_file

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from deai import files
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
getattr(files, sys.argv[1])(Path(sys.argv[2]), b"new")
"""
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from deai import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    getattr(files, sys.argv[1])(Path(sys.argv[2]), bytes(1000))
except OSError as error:
    print(error.errno)
"""


def run(code: str, function: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, function, str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_an_old_file_stays_when_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert run(KILLED_WHILE_WRITING, "replace_file", path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_a_new_file_is_not_there_when_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert run(KILLED_WHILE_WRITING, "create_file", path).returncode == -signal.SIGKILL
    assert not path.exists()
    create_file(path, b"all of it")
    assert path.read_bytes() == b"all of it"


@pytest.mark.parametrize("function", ["replace_file", "create_file"])
def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path, function: str) -> None:
    told = run(FULL_DISK, function, tmp_path / "file")
    assert told.stdout.strip().isdigit(), told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_never_created_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_file(path, b"first")
    with pytest.raises(FileExistsError):
        create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_is_said_before_anything_is_written(tmp_path: Path) -> None:
    create_file(tmp_path / "private", b"")
    replace_file(tmp_path / "kept", b"", mode=0o600)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
