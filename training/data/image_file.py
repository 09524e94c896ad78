"""What every kind of image file offers: planes that are read one at a time, and one type of error."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from training.data.samples import Picture
from training.errors import DataError


class ImageFile(ABC):
    """An opened file. Different threads may read its planes.

    Attributes:
        path: of the file.
        plane_count: how many images it holds.
        defect: what is wrong with the file as a whole although its planes can be read, or None.
    """

    path: Path
    plane_count: int
    defect: str | None = None

    @abstractmethod
    def decoded_bytes(self, plane: int) -> int:
        """Memory that the decoded plane needs."""

    @abstractmethod
    def read(self, plane: int) -> Picture:
        """Decodes one plane.

        Raises:
            DataError: it can't be decoded, or has no safe reading as grey or colour.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plane_name(self, file_name: str, plane: int) -> str:
        """How a manifest calls a plane: the file's name, or ``name#plane`` in a stack."""
        return file_name if self.plane_count == 1 else f"{file_name}#{plane}"


@contextmanager
def decoding() -> Iterator[None]:
    """Turns whatever a decoder raises into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # A damaged file makes decoders raise nearly anything (struct.error, KeyError, MemoryError ...); an audit of
        # thousands of files must list it and go on.
        raise DataError(
            f"cannot be decoded: {str(error) or type(error).__name__}; copy it again or delete it"
        ) from error
