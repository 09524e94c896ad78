"""Several clients at once, each with its own connection, so that their images meet in the service's batches."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from denoised import CleanResult, Client, DenoisedError, ServerUnavailableError
from service.demo.pictures import Picture

# Large photographs on a small machine take their time, and they all wait for each other.
_TIMEOUT_S = 600.0


@dataclass(slots=True)
class Outcome:
    """What came back for one picture: a result for each time that it was sent, or the last error."""

    results: list[CleanResult[bytes]] = field(default_factory=list)
    error: DenoisedError | None = None


def send(pictures: Sequence[Picture], *, target: str, client_count: int, round_count: int) -> list[Outcome]:
    """Sends every picture ``round_count`` times, spread over the clients; one outcome for each picture.

    Raises:
        ServerUnavailableError: the service has gone.
    """
    outcomes = [Outcome() for _ in pictures]
    # Each client takes every client_count-th turn, so that at any time the clients are at different pictures.
    turns = [index for _ in range(round_count) for index in range(len(pictures))]

    def run_client(number: int) -> list[tuple[int, CleanResult[bytes] | DenoisedError]]:
        answers: list[tuple[int, CleanResult[bytes] | DenoisedError]] = []
        with Client(target) as client:
            for index in turns[number::client_count]:
                try:
                    answers.append((index, client.clean(pictures[index].file, timeout_s=_TIMEOUT_S)))
                except ServerUnavailableError:
                    raise
                except DenoisedError as error:
                    answers.append((index, error))
        return answers

    with ThreadPoolExecutor(client_count, thread_name_prefix="demo-client") as threads:
        for answers in threads.map(run_client, range(client_count)):
            for index, answer in answers:
                if isinstance(answer, DenoisedError):
                    outcomes[index].error = answer
                else:
                    outcomes[index].results.append(answer)
    return outcomes
