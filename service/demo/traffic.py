"""Several clients at once, each with its own connection, so that their images meet in the service's batches."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from denoised import CleanResult, Client, DenoisedError, ServerUnavailableError
from service.demo.pictures import Picture

# Large photographs on a small machine take their time, and they all wait for each other.
_TIMEOUT_S = 600.0
_STREAM_CONCURRENCY = 4

_Answer = tuple[int, CleanResult[bytes] | DenoisedError]


@dataclass(slots=True)
class Outcome:
    """What came back for one picture: a result for each time that it was sent, or the last error."""

    results: list[CleanResult[bytes]] = field(default_factory=list)
    error: DenoisedError | None = None


def send(pictures: Sequence[Picture], *, target: str, client_count: int, round_count: int) -> list[Outcome]:
    """Sends every picture several times; one outcome for each of them.

    Photographs go in calls of their own, each ``round_count`` times, spread over the clients. Then every client
    streams all details ``round_count`` times.

    Raises:
        ServerUnavailableError: the service has gone.
    """
    photographs = [index for index, picture in enumerate(pictures) if not picture.is_detail] * round_count
    details = [index for index, picture in enumerate(pictures) if picture.is_detail] * round_count

    def call(client: Client, number: int) -> Iterable[_Answer]:
        # Each client takes every client_count-th turn, so that at any time the clients are at different pictures.
        for index in photographs[number::client_count]:
            try:
                yield index, client.clean(pictures[index].file, timeout_s=_TIMEOUT_S)
            except DenoisedError as error:
                yield index, error

    def stream(client: Client, number: int) -> Iterable[_Answer]:
        del number
        files = (pictures[index].file for index in details)
        outcomes = client.clean_many(files, concurrency=_STREAM_CONCURRENCY, timeout_s=_TIMEOUT_S)
        return ((details[position], outcome) for position, outcome in outcomes)

    outcomes = [Outcome() for _ in pictures]
    for way in (call, stream):
        for index, answer in _from_all_clients(way, target, client_count):
            if isinstance(answer, ServerUnavailableError):
                raise answer
            if isinstance(answer, DenoisedError):
                outcomes[index].error = answer
            else:
                outcomes[index].results.append(answer)
    return outcomes


def _from_all_clients(
    way: Callable[[Client, int], Iterable[_Answer]], target: str, client_count: int
) -> Iterable[_Answer]:
    def run(number: int) -> list[_Answer]:
        with Client(target) as client:
            return list(way(client, number))

    with ThreadPoolExecutor(client_count, thread_name_prefix="demo-client") as threads:
        return [answer for answers in threads.map(run, range(client_count)) for answer in answers]
