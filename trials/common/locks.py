"""One command at a time on a run: locks that the system releases when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from spaces.errors import InputError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some file systems of clusters have none
# seconds that a killed command's processes, which decode images, may keep its lock: they look for it every 5 seconds
PATIENCE = 15.0


@contextlib.contextmanager
def exclusive(run: Path, name: str) -> Iterator[None]:
    """Let only one command of a kind work on a run while the body runs; the system releases it even when it is killed.

    The folder is made where there is none, and removed where the body leaves it empty.

    Args:
        name: of the kind, such as "search" or "training".
    Raises:
        InputError: another one is going on, or the folder cannot be written.
    """
    path, new = run / f".{name}.lock", not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    except _Held as held:
        raise InputError(
            f"another {name} of '{run}' is going on (process {held.holder or 'unknown'}); wait for it or stop it"
        ) from None
    except OSError as error:
        raise InputError(f"cannot write to '{run}' ({error.strerror}); choose another --out") from None
    with lock:
        try:
            yield
        finally:  # nobody else can hold it now, and who waits to open it looks whether it is still there
            path.unlink(missing_ok=True)
            if new:
                with contextlib.suppress(OSError):
                    run.rmdir()


def is_held(path: Path) -> bool:
    """Whether a process, also this one, holds the lock that is this file."""
    return _held(path) is not None


def refuse_while(run: Path, name: str, then: str) -> None:
    """Refuse to begin while a command of another kind works on a run.

    Args:
        name: of the kind, as for `exclusive`.
        then: what would happen, as a clause.
    Raises:
        InputError: one is going on.
    """
    held = _held(run / f".{name}.lock")
    if held:
        raise InputError(
            f"a {name} of '{run}' is going on (process {held.holder or 'unknown'}), {then}; wait for it or stop it"
        )


@contextlib.contextmanager
def waiting(path: Path, told: str = "") -> Iterator[None]:
    """Let one process at a time into the body; the others wait. The lock file is gone when the last one is done, and what a
    killed one left is taken over.

    Args:
        told: what is printed where it must be waited for.
    """
    try:
        lock = _take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except _Held:
        if told:
            print(told)
        lock = _take(path, fcntl.LOCK_EX)
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def same_file(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class _Held(Exception):
    """Another process holds a lock: `holder`, or None where its file does not name one, being just taken or damaged."""

    def __init__(self, lock: IO[str]) -> None:
        lock.seek(0)
        text = lock.read(20)
        self.holder = int(text) if text.isdecimal() else None


def _held(path: Path) -> _Held | None:
    """Who holds the lock that is this file; None where nobody does, or where it cannot be asked."""
    try:
        if path.exists():
            _take(path, fcntl.LOCK_SH | fcntl.LOCK_NB).close()
    except _Held as held:
        return held
    except OSError:  # the folder cannot be written, which who writes there says
        pass
    return None


def _take(path: Path, how: int) -> IO[str]:
    """Open and lock a file that its last holder may just be removing.

    Args:
        how: fcntl.LOCK_EX, with fcntl.LOCK_NB so as not to wait.
    Raises:
        _Held: another process holds it.
    """
    while True:
        lock = open(path, "a+")
        try:
            fcntl.flock(lock, how)
        except BlockingIOError:
            with lock:
                raise _Held(lock) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                lock.close()
                raise
        if same_file(lock, path):
            return lock
        lock.close()


def _locked(path: Path) -> IO[str]:
    """Take a lock, after a moment where its holder was killed, and write the number of this process into its file.

    Raises:
        _Held: another process holds it.
    """
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            lock = _take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except _Held as held:
            if time.monotonic() > patience or held.holder is None or Path(f"/proc/{held.holder}").exists():
                raise
            time.sleep(0.1)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
