"""Whether files have changed since somebody last looked. Knows nothing of what is in them."""

from collections.abc import Sequence
from pathlib import Path


class FileWatch:
    """Some files. What is mounted from a Kubernetes Secret counts as changed when its link points elsewhere."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Looks for the first time: read the files after this, so that no change between is missed."""
        self._paths = tuple(paths)
        self._seen = self._look()

    def has_changed(self) -> bool:
        """True once after each change."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, int, int] | None:
    """None of a file that is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
