"""The file of callers: who is who, what is wrong in it, and what a change of it does."""

import hashlib
import time
from pathlib import Path

import pytest

from service.errors import QuotaExceeded, Unauthenticated
from service.identities import CallersRefused, Identities, capped, new_token, read_callers
from service.types import ServiceClass

ALICE, BOB = new_token("alice"), new_token("bob")


def write(path: Path, *tables: str) -> Path:
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


def table(name: str, *digests: str, more: str = "") -> str:
    return f"[callers.{name}]\ntoken_sha256 = {list(digests)}\n{more}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "callers.toml", table("alice", ALICE.sha256), table("bob", BOB.sha256))


@pytest.fixture
def callers(path: Path) -> Identities:
    return Identities(path, time.monotonic)


def test_a_token_leads_to_its_caller(callers: Identities) -> None:
    assert callers.of_token(ALICE.token).caller.name == "alice"
    assert callers.of_token(BOB.token).caller.name == "bob"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "alice",
        "alice.",
        ALICE.token[:-1],
        ALICE.token + "x",
        ALICE.sha256,
        new_token("alice").token,
        new_token("carol").token,
        "bob." + ALICE.token.partition(".")[2],
        "x" * 100_000,
        "alice.\udcff",
    ],
)
def test_any_other_is_nobodys(token: str, callers: Identities) -> None:
    with pytest.raises(Unauthenticated, match="unknown or was revoked"):
        callers.of_token(token)


def test_the_file_holds_no_token(path: Path) -> None:
    assert ALICE.token not in path.read_text(encoding="utf-8")
    assert hashlib.sha256(ALICE.token.encode()).hexdigest() == ALICE.sha256


def test_tokens_are_never_the_same() -> None:
    assert len({new_token("alice").token for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["", "Alice", "a b", "-a", "a.b", "a" * 64, "ä"])
def test_a_name_that_logs_could_be_misled_by_gets_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case"):
        new_token(name)


def test_a_certificate_leads_to_its_caller(path: Path) -> None:
    write(path, "[callers.alice]\ncertificate_names = ['alice.example', 'alice']")
    callers = Identities(path, time.monotonic)
    assert callers.of_certificate(["other", "alice"]).caller.name == "alice"
    with pytest.raises(Unauthenticated, match="'mallory'"):
        callers.of_certificate(["mallory"])
    with pytest.raises(Unauthenticated, match="neither a token nor"):
        callers.of_certificate([])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[callers", "is no TOML"),
        ("", "callers: Field required"),
        ("[callers.alice]", "neither token_sha256 nor certificate_names"),
        (table("Alice", ALICE.sha256), "lower-case"),
        (table("alice", "abc"), "callers.alice.token_sha256.0"),
        (table("alice", ALICE.sha256, more="requests_per_s = 0"), "greater than 0"),
        (table("alice", ALICE.sha256, more="requests_per_s = inf"), "leave it out"),
        (table("alice", ALICE.sha256, more="pixels_per_s = nan"), "callers.alice.pixels_per_s"),
        (table("alice", ALICE.sha256, more="concurrency = 0"), "greater than or equal to 1"),
        (table("alice", ALICE.sha256, more='most_urgent_class = "vip"'), "'interactive', 'normal' or 'bulk'"),
        (table("alice", ALICE.sha256, more="reqests_per_s = 5"), "callers.alice.reqests_per_s: Extra"),
        (
            "[callers.alice]\ncertificate_names = ['x']\n[callers.bob]\ncertificate_names = ['x']",
            "belongs to callers.alice",
        ),
        ("x" * (4 * 2**20 + 1), "bytes; at most"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text: str, says: str, path: Path) -> None:
    with pytest.raises(CallersRefused) as caught:
        read_callers(write(path, text))
    assert says in str(caught.value)
    assert ALICE.sha256 not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallersRefused, match="DENOISED_CALLERS_FILE"):
        read_callers(tmp_path / "none.toml")


def test_a_token_that_left_the_file_is_revoked_where_it_was_let_in_already(callers: Identities, path: Path) -> None:
    alice, bob = callers.of_token(ALICE.token), callers.of_token(BOB.token)
    callers.take(read_callers(write(path, table("bob", BOB.sha256))))
    with pytest.raises(Unauthenticated):
        callers.of_token(ALICE.token)
    with pytest.raises(Unauthenticated, match="revoked"):
        alice.require_valid()
    bob.require_valid()
    assert callers.of_token(BOB.token) is bob


def test_while_one_token_replaces_another_both_hold(callers: Identities, path: Path) -> None:
    new = new_token("alice")
    old_pass = callers.of_token(ALICE.token)
    callers.take(read_callers(write(path, table("alice", ALICE.sha256, new.sha256))))
    assert callers.of_token(new.token).caller is callers.of_token(ALICE.token).caller is old_pass.caller
    callers.take(read_callers(write(path, table("alice", new.sha256))))
    callers.of_token(new.token).require_valid()
    with pytest.raises(Unauthenticated):
        old_pass.require_valid()


def test_a_change_forgives_no_debt(path: Path) -> None:
    write(path, table("alice", ALICE.sha256, more="pixels_per_s = 1.0"))
    callers = Identities(path, lambda: 0.0)
    allowance = callers.of_token(ALICE.token).caller.allowance
    allowance.take_pixels(100)
    callers.take(read_callers(write(path, table("alice", ALICE.sha256, more="pixels_per_s = 2.0"))))
    with pytest.raises(QuotaExceeded):
        callers.of_token(ALICE.token).caller.allowance.enter(1)


def test_a_certificate_name_that_goes_to_another_takes_nothing_along(path: Path) -> None:
    write(path, "[callers.alice]\ncertificate_names = ['x']")
    callers = Identities(path, time.monotonic)
    before = callers.of_certificate(["x"])
    callers.take(read_callers(write(path, "[callers.bob]\ncertificate_names = ['x']")))
    assert callers.of_certificate(["x"]).caller.name == "bob"
    with pytest.raises(Unauthenticated):
        before.require_valid()


def test_nobody_gets_more_urgency_than_it_may() -> None:
    interactive, normal, bulk = ServiceClass.INTERACTIVE, ServiceClass.NORMAL, ServiceClass.BULK
    assert capped(interactive, normal) is normal
    assert capped(bulk, normal) is bulk
    assert capped(normal, interactive) is normal
    assert capped(interactive, bulk) is bulk
