"""The page that lists every reason: what a client sees of it, what caused it, and what to do about it.

Codes and retries come from the errors themselves, exceptions from the client's own table, so that the page can't say
anything else than they do: ``python -m service --print-errors > docs/errors.md``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import RetryInfo

from denoised import _failures
from denoised._connecting import CAUSES
from service.errors import InvalidArgument, Overloaded, ServiceError, all_reasons, error_of
from service.status import status_of

_HEAD: Final = """\
# Errors

Made by `python -m service --print-errors`.

Every refusal of the service carries a `google.rpc.ErrorInfo` (domain `denoised.v1`) with one of these reasons, which
are stable; a bad argument carries a `google.rpc.BadRequest` that names the field, and what is worth sending again a
`google.rpc.RetryInfo`. The message names the value, the limit and the remedy. The Python client raises the exception in
the last column; `error.reason` is the reason.

| reason | code | again? | cause | remedy | exception |
|---|---|---|---|---|---|
"""
_CLIENT_HEAD: Final = """
## Reasons that the client finds itself

Nothing of them comes from the service: it was not reached, or was not asked.

| reason | cause | remedy |
|---|---|---|
"""

# Cause and remedy, for people.
_EXPLAINED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "CANCELLED": ("The client took the item back.", "None; send it again if it is wanted after all."),
        "CAPABILITY_MISSING": (
            "The model is loaded, but is not made for this.",
            "Name another model; `denoised models` lists what each can do.",
        ),
        "CHUNKS_INVALID": (
            "Chunks broke the rules of the stream: no header, a second one, or other bytes than were announced.",
            "Correct the client; the rules are in `denoised.proto`, at ImageHeader.",
        ),
        "CLIENT_GONE": ("The client closed the connection before its answers were written.", "None."),
        "CLIENT_QUOTA": (
            "The caller asked for more than it may in this time.",
            "Wait as long as RetryInfo says; ask whoever runs the service for more.",
        ),
        "DEADLINE_EXCEEDED": (
            "The deadline passed before the answer was ready.",
            "Allow more time, send smaller images, or add replicas.",
        ),
        "DEADLINE_UNREACHABLE": (
            "The work ahead of the image takes longer than its deadline leaves.",
            "Wait as long as RetryInfo says, allow more time, or add replicas.",
        ),
        "DRAINING": (
            "The replica is stopping.",
            "Send it again: another replica answers, or the next one.",
        ),
        "ENGINE_STUCK": (
            "No lane of the replica answers any more.",
            "Send it again; the replica is restarted by its liveness probe.",
        ),
        "IMAGE_TOO_LARGE": (
            "More pixels or bytes than are taken in this way.",
            "Send it in chunks, as the Python client does by itself; else scale it down, or cut it into parts.",
        ),
        "IMAGE_UNDECODABLE": ("The file is damaged, cut off, or no image.", "Open and save it anew; look at its size."),
        "IMAGE_UNSUPPORTED": (
            "An image of a kind that is not served, such as an animation or CMYK.",
            "Convert it to a kind that is; the message names them.",
        ),
        "INTERNAL": (
            "The service failed in a way that it does not know.",
            "Look for the request's id in its log, and report it.",
        ),
        "LATENT_INVALID": (
            "A latent code of another length than the model's, or with numbers that are not finite.",
            "Send as many numbers as `denoised models --json` names in `code_length`.",
        ),
        "LATENT_OUT_OF_DISTRIBUTION": (
            "A latent code that is further from the model's than that of any image.",
            "Send one nearer to them, or allow it: `allow_out_of_distribution`.",
        ),
        "MEMORY_BUDGET": (
            "The images that are being worked on hold as much memory as they may.",
            "Wait as long as RetryInfo says, send fewer at a time, or give the service more memory.",
        ),
        "MESSAGE_INVALID": ("The bytes are no message of the API.", "Generate the client anew from `denoised.proto`."),
        "MODEL_FAILED": (
            "The network failed on this image.",
            "Try another model; report the image's size and kind with the request's id.",
        ),
        "MODEL_UNKNOWN": (
            "No model of this name and version is loaded.",
            "Name one that `denoised models` lists, or none for the default.",
        ),
        "NETWORK_HUNG": (
            "The batch that the image was in did not come back.",
            "Don't send it again at once: it may be the cause. Report it.",
        ),
        "NONFINITE_OUTPUT": (
            "The network's answer held NaN or infinity.",
            "Look at the levels: `black_level` and `white_level` must suit the samples.",
        ),
        "NOT_READY": ("The replica is starting.", "Send it again in a second; `denoised doctor` shows its health."),
        "OPTION_INVALID": ("An option is out of its range, or does not suit the image.", "Correct the field named."),
        "QUEUE_FULL": (
            "As much work waits as may.",
            "Wait as long as RetryInfo says, send fewer at a time, or add replicas.",
        ),
        "SAMPLES_INVALID": (
            "Raw samples of a wrong length, type or value, such as NaN.",
            "Send height x width x channels samples of the type that is stated, all finite.",
        ),
        "UNAUTHENTICATED": (
            "The token or certificate is missing, unknown or revoked.",
            "Send one that the service knows; whoever runs it issues them.",
        ),
    }
)
_OF_THE_CLIENT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "FILE_UNREADABLE": (
            "The path, or a file that an option names, can't be read.",
            "Look at path and permissions.",
        ),
        "RESOURCE_EXHAUSTED": (
            "A message was longer than the server, or a proxy on the way, takes.",
            "Set the client's `message_bytes`, or `--message-mib`, to that limit: larger images then go in chunks.",
        ),
        "UNIMPLEMENTED": (
            "The server does not know the method: it is older than the client, or no denoised service.",
            "Update it, or name another one.",
        ),
        "UNAVAILABLE": ("No server answers, for a reason that gRPC's text names.", "`denoised doctor` looks for it."),
        "STREAM_ENDED": (
            "The server ended a stream before all its images were answered.",
            "None: the client sends them again; this is what is left when that was in vain.",
        ),
        "ANSWER_MALFORMED": (
            "The answer does not fit the request.",
            "Make sure that nothing on the way changes messages, and report it.",
        ),
    }
)


def error_page() -> str:
    """The page in Markdown."""
    rows = "".join(_row(reason) for reason in all_reasons())
    causes = {
        cause.reason: ("No connection came about.", f"{cause.remedy[0].upper()}{cause.remedy[1:]}.") for cause in CAUSES
    }
    explained = sorted({**_OF_THE_CLIENT, **causes}.items())
    own = "".join(f"| `{reason}` | {cause} | {remedy} |\n" for reason, (cause, remedy) in explained)
    return _HEAD + rows + _CLIENT_HEAD + own


def _row(reason: str) -> str:
    status = status_of(_example(error_of(reason)))
    exception = type(_failures.from_status(status, target="")).__name__
    again = "yes" if any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details) else "no"
    cause, remedy = _EXPLAINED[reason]
    return f"| `{reason}` | {Code.Name(status.code)} | {again} | {cause} | {remedy} | `{exception}` |\n"


def _example(kind: type[ServiceError]) -> Exception:
    """One of the kind, for its code and details; the base of all stands for what the service does not know."""
    if kind is ServiceError:
        return RuntimeError()
    error = kind.__new__(kind, "")  # past what each kind wants to be told
    if isinstance(error, InvalidArgument):
        error.field = "image"
    if isinstance(error, Overloaded):
        error.retry_after_s = 1.0
    return error
