"""File formats by their endings, and files that are written whole or not at all."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

Container = Literal["png", "jpeg"]
CONTAINER_OF_SUFFIX: Final[dict[str, Container]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}

# .NAME.HOST-PID.part, of an image; whatever else ends so is somebody else's.
_PART: Final = re.compile(
    rf"\..*(?:{'|'.join(map(re.escape, CONTAINER_OF_SUFFIX))})\.(?P<host>.+)-(?P<pid>\d+)\.part", re.IGNORECASE
)
# Nobody writes one file for so long.
_ABANDONED_AFTER_S: Final = 3600.0


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file that is never seen half-written; folders on the way to it are made.

    Raises:
        OSError: it can't be written, and names the target; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the target's own folder, because a rename is atomic only within one file system.
    part = target.with_name(f".{target.name}.{_writer()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        # A disk that is full names no file.
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what writers left half-written in the folder when they were killed; others may be at work in it."""
    for part in _parts(folder):
        with suppress(OSError):
            if _is_abandoned(part):
                part.unlink()


def _writer() -> str:
    """Who writes: several machines may share a folder."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _parts(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if _PART.fullmatch(path.name))


def _is_abandoned(part: Path) -> bool:
    name = _PART.fullmatch(part.name)
    assert name is not None
    if name["host"] == socket.gethostname() and os.name == "posix":
        return not _is_alive(int(name["pid"]))
    return time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
