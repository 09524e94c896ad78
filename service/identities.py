"""Who may call, read from a file: by a token of which the file knows the hash alone, or by a client's certificate.

    [callers.night-shift]
    token_sha256 = ["5b2f..."]              # python -m service token night-shift; two while one replaces the other
    certificate_names = ["night.example"]   # DNS names, or the common name, of a client certificate
    requests_per_s = 50
    pixels_per_s = 20e6
    bytes_per_s = 50e6
    concurrency = 32
    most_urgent_class = "bulk"              # asks for more urgency get this much
    admin = false                           # may change what is served, on the HTTP port

A token is ``name.secret``. Its secret has 256 random bits, so that an unsalted hash gives nothing away.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import Unauthenticated
from service.quota import Allowance, Quota
from service.types import ServiceClass

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LARGEST_FILE_BYTES: Final = 4 * 2**20
# Longer than any token that this service makes; what is longer is not even hashed.
_LONGEST_TOKEN: Final = 256
# Compared with where no caller has the token's name.
_NOBODY: Final[Mapping[str, None]] = {"0" * 64: None}
_URGENCY: Final = tuple(ServiceClass)
_REMEDY: Final = "send the metadata 'authorization: Bearer TOKEN' with a token from whoever runs the service"

_Rate = Annotated[float, Field(gt=0)]


class CallersRefused(Exception):
    """The file can't be used; the message says what is wrong in it."""


class _Entry(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    token_sha256: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=list, max_length=8)
    certificate_names: list[Annotated[str, Field(min_length=1, max_length=253)]] = Field(
        default_factory=list, max_length=64
    )
    requests_per_s: _Rate = inf
    pixels_per_s: _Rate = inf
    bytes_per_s: _Rate = inf
    concurrency: Annotated[int, Field(ge=1)] | None = None
    most_urgent_class: Literal["interactive", "normal", "bulk"] = "interactive"
    admin: bool = False

    def quota(self) -> Quota:
        return Quota(
            self.requests_per_s,
            self.pixels_per_s,
            self.bytes_per_s,
            inf if self.concurrency is None else self.concurrency,
        )


class CallersFile(BaseModel):
    """All of it, checked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    callers: dict[str, _Entry]


class Caller:
    """Somebody who may call, however they prove it. Changed by a reload, and the same object while they stay.

    Attributes:
        name: as in the file; bounded, so that it may stand in logs.
        allowance: what is left of its quota.
        most_urgent_class: what asks for more urgency gets.
        is_admin: whether it may change what is served.
    """

    def __init__(self, name: str, entry: _Entry, clock: Callable[[], float]) -> None:
        self.name = name
        self.allowance = Allowance(entry.quota(), clock)
        self.most_urgent_class = ServiceClass(entry.most_urgent_class)
        self.is_admin = entry.admin

    def change(self, entry: _Entry) -> None:
        self.allowance.change(entry.quota())
        self.most_urgent_class = ServiceClass(entry.most_urgent_class)
        self.is_admin = entry.admin


@dataclass(slots=True, eq=False)
class Pass:
    """A caller who proved who it is, by one token or certificate. Revoked when that leaves the file."""

    caller: Caller
    is_revoked: bool = False

    def require_valid(self) -> None:
        """Raises Unauthenticated once it is revoked: streams outlive what they began with."""
        if self.is_revoked:
            raise Unauthenticated(f"what you were let in with was revoked; {_REMEDY}")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made, and what the file keeps of it."""

    token: str
    sha256: str


class Identities:
    """All who may call."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Raises CallersRefused."""
        self._path = path
        self._clock = clock
        self._callers: dict[str, Caller] = {}
        self._by_digest: dict[str, dict[str, Pass]] = {}
        self._by_certificate: dict[str, Pass] = {}
        self.take(read_callers(path))

    def take(self, file: CallersFile) -> None:
        """Uses a file that was read. Who stays keeps what it has used of its quota; who went is let in no more."""
        before = self._callers
        self._callers = {}
        for name, entry in file.callers.items():
            caller = self._callers[name] = before.get(name) or Caller(name, entry, self._clock)
            caller.change(entry)
        old_digests, old_certificates = self._by_digest, self._by_certificate
        self._by_digest = {
            name: {
                digest: old_digests.get(name, {}).get(digest) or Pass(self._callers[name])
                for digest in entry.token_sha256
            }
            for name, entry in file.callers.items()
        }
        self._by_certificate = {}
        for name, entry in file.callers.items():
            for certificate_name in entry.certificate_names:
                old = old_certificates.get(certificate_name)
                same = old if old is not None and old.caller is self._callers[name] else None
                self._by_certificate[certificate_name] = same or Pass(self._callers[name])
        kept = {id(each) for each in self._passes()}
        gone = [*(p for passes in old_digests.values() for p in passes.values()), *old_certificates.values()]
        for each in gone:
            each.is_revoked = id(each) not in kept

    def of_token(self, token: str) -> Pass:
        """Who has this token. Takes as long for a wrong one as for a right one.

        Raises:
            Unauthenticated: nobody.
        """
        found: Pass | None = None
        if len(token) <= _LONGEST_TOKEN:
            digest = _sha256(token)
            known: Mapping[str, Pass | None] = self._by_digest.get(token.partition(".")[0]) or _NOBODY
            for each, owner in known.items():
                if hmac.compare_digest(each, digest):
                    found = owner
        if found is None:
            raise Unauthenticated(f"the token is unknown or was revoked; {_REMEDY}")
        return found

    def of_certificate(self, names: list[str]) -> Pass:
        """Who has a certificate with these names, which gRPC has checked.

        Raises:
            Unauthenticated: nobody, or there is none.
        """
        for name in names:
            if (found := self._by_certificate.get(name)) is not None:
                return found
        if names:
            raise Unauthenticated(
                f"no caller has the certificate name {names[0][:100]!r}; ask whoever runs the service to add it, or "
                f"{_REMEDY}"
            )
        raise Unauthenticated(f"the call carries neither a token nor a client certificate; {_REMEDY}")

    def _passes(self) -> list[Pass]:
        return [*(p for passes in self._by_digest.values() for p in passes.values()), *self._by_certificate.values()]


def read_callers(path: Path) -> CallersFile:
    """The file, checked.

    Raises:
        CallersRefused: everything that is wrong in it.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _LARGEST_FILE_BYTES:
            raise CallersRefused(f"{path} has {size_bytes} bytes; at most {_LARGEST_FILE_BYTES} are read")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CallersRefused(
            f"cannot read {path}: {error.strerror}; name another with DENOISED_CALLERS_FILE"
        ) from error
    except ValueError as error:
        raise CallersRefused(f"{path} is no TOML: {error}") from error
    try:
        file = CallersFile.model_validate(values)
    except ValidationError as error:
        raise CallersRefused(
            f"{path} is wrong:\n"
            + "\n".join(
                f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)
            )
        ) from error
    problems = _problems(file.callers)
    if problems:
        raise CallersRefused(f"{path} is wrong:\n" + "\n".join(f"  {problem}" for problem in problems))
    return file


def new_token(name: str) -> NewToken:
    """A token for the caller of that name.

    Raises:
        ValueError: it can't be a caller's name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(_bad_name(name))
    token = f"{name}.{secrets.token_urlsafe(32)}"
    return NewToken(token, _sha256(token))


def capped(asked: ServiceClass, most_urgent: ServiceClass) -> ServiceClass:
    """The class that is asked for, or the most urgent one that is allowed."""
    return max(asked, most_urgent, key=_URGENCY.index)


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", errors="replace")).hexdigest()


def _problems(entries: Mapping[str, _Entry]) -> list[str]:
    problems = [_bad_name(name) for name in entries if not _NAME.fullmatch(name)]
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        if not (entry.token_sha256 or entry.certificate_names):
            problems.append(
                f"callers.{name}: it has neither token_sha256 nor certificate_names, so it could never call"
            )
        problems += [
            f"callers.{name}.{rate}: it must be finite; leave it out for no limit"
            for rate in ("requests_per_s", "pixels_per_s", "bytes_per_s")
            if rate in entry.model_fields_set and not isfinite(getattr(entry, rate))
        ]
        for certificate_name in entry.certificate_names:
            if (owner := owners.setdefault(certificate_name, name)) != name:
                problems.append(f"callers.{name}.certificate_names: {certificate_name!r} belongs to callers.{owner}")
    return problems


def _bad_name(name: str) -> str:
    return f"callers.{name[:80]}: a name has 1 to 63 lower-case letters, digits and hyphens, and begins with no hyphen"
