"""The lock of a training folder: one run at a time."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import TracebackType

from ..errors import StrokesError

if sys.platform == "win32":
    import msvcrt

    def _try(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # far behind the text: a locked byte cannot be read
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _try(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunLock:
    """A context manager that holds the lock file ``path``, in which the holder's process id and host stand.

    The operating system drops the lock when the process ends in whatever way, so a file left behind by a killed run locks
    nothing. Entering raises StrokesError that names the holder while another run is alive.
    """

    def __init__(self, path: Path):
        self.path = path
        self._fd = -1

    def __enter__(self) -> RunLock:
        while True:
            fd = self._open()
            try:
                _try(fd)
            except OSError as error:
                os.lseek(fd, 0, os.SEEK_SET)
                holder = os.read(fd, 200).decode(errors="replace").strip()
                os.close(fd)
                if not isinstance(error, BlockingIOError | PermissionError):
                    raise StrokesError(f"cannot lock {self.path} ({error.strerror}): choose another --out") from error
                raise StrokesError(
                    f"{self.path.parent} is in use by another run ({holder or 'it is just starting'}): "
                    "wait for it to end, or choose another --out"
                ) from None
            if self._is_current(fd):
                break
            os.close(fd)  # the last holder deleted the file between opening and locking
        self._fd = fd
        if hasattr(os, "register_at_fork"):
            # Worker processes outlive a killed run for some seconds: they must not hold its lock.
            os.register_at_fork(after_in_child=self._close)
        os.ftruncate(fd, 0)
        os.write(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if sys.platform == "win32":
            self._close()  # an open file cannot be deleted there
        self.path.unlink(missing_ok=True)
        self._close()

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StrokesError(
                f"cannot write {self.path} ({error.strerror}): make room there, or choose another place"
            ) from error

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
