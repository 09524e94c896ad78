"""The command against a real server: exit codes, tables, files, profiles."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from denoised.cli import main
from denoised.errors import InternalError
from denoised.load.gates import parse_gate
from denoised.load.plan import LoadPlan
from denoised.load.verdicts import Outcome
from tests.unit.denoised.conftest import Refusal, Server

QUICK = (
    "--rate",
    "200",
    "--duration",
    "0.1",
    "--arrivals",
    "constant",
    "--warm-up",
    "0",
    "--mix",
    "8x8",
    "--images",
    "1",
)
OFFERED = 20
PROFILES = Path(__file__).resolve().parents[3] / "tests" / "load"


def load(*arguments: object, target: str) -> Result:
    return CliRunner().invoke(main, ["load", "--server", target, *map(str, arguments)])


class Reader(HTMLParser):
    """Fails on tags that do not close in order, and notes what the page asks of others."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_well_is_0_and_the_table_adds_up(server: Server) -> None:
    result = load(*QUICK, target=server.target)
    assert result.exit_code == 0, result.output
    header, row = result.stdout.splitlines()[:2]
    assert header.split() == [
        *("stage", "images/s", "offered", "=", "ok", "late", "refused", "cancelled", "wrong", "failed", "lost"),
        *("not", "sent", "goodput/s"),
    ]
    stage, _, offered, equals, *counts, _ = row.split()
    assert (stage, equals) == ("200/s", "=")
    assert int(offered) == sum(map(int, counts)) == OFFERED
    assert result.stdout.rstrip().endswith("All well.")


def test_nothing_is_checked_without_verify_and_the_table_says_so(server: Server) -> None:
    result = load(*QUICK, "--no-verify", target=server.target)
    assert result.exit_code == 0, result.output
    assert "answers were not checked" in result.stdout
    assert len(server.service.requests) == OFFERED


def test_json_holds_what_was_asked_and_found(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "load.json"
    assert load(*QUICK, "--json", path, "--gate", "lost = 0", target=server.target).exit_code == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    (stage,) = found["stages"]
    assert (found["is_ok"], found["problems"], found["server"]) == (True, [], "cdae 2")
    assert (stage["offered"], stage["figures"]["ok"], stage["adds_up"]) == (OFFERED, OFFERED, True)
    assert sum(slot["ok"] for slot in stage["over_time"]) == OFFERED
    (outcome,) = stage["outcomes"]
    assert sum(count for _, count in outcome["histogram_ms"]) == outcome["count"] == OFFERED
    assert outcome["p50_ms"] <= outcome["p99_ms"] <= outcome["max_ms"]
    assert found["plan"]["gates"] == ["lost = 0"]


def test_the_page_is_whole_and_needs_nothing_else(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "load.html"
    server.service.script.extend([None, Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUEUE_FULL")])
    assert load(*QUICK, "--rate", "100", "--html", path, target=server.target).exit_code == 0
    text = path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert reader.links == []
    assert reader.tags.count("svg") == 3 + 2 * 2
    assert "script" not in reader.tags
    assert "1 refused QUEUE_FULL" in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).lower()
    assert f"{OFFERED - 1} ok, 95.0%" in text


def test_a_page_of_nothing_but_refusals_is_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "load.html"
    server.service.script.extend([Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUEUE_FULL")] * OFFERED)
    assert load(*QUICK, "--no-verify", "--html", path, target=server.target).exit_code == 0
    assert path.read_text(encoding="utf-8").count("Nothing was admitted.") == 2


def test_a_failure_is_1_and_named(server: Server) -> None:
    server.service.script.extend([None, Refusal(grpc.StatusCode.INTERNAL, reason="MODEL_FAILED")])
    result = load(*QUICK, target=server.target)
    assert result.exit_code == 1
    assert "200/s: 1 images failed" in result.stdout
    assert "failed MODEL_FAILED, for example: refused by the test" in result.stdout


def test_a_gate_that_does_not_hold_is_1(server: Server) -> None:
    result = load(*QUICK, "--gate", "ok >= 21", target=server.target)
    assert result.exit_code == 1
    assert "ok 20 misses the gate ok >= 21" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--rate", "fast"), "write images a second"),
        (("--mix", "64"), "names no size"),
        (("--gate", "lots = 0"), "no figure is called 'lots'"),
        (("--slow-readers", "0.01"), "of 4 connections is none"),
        (("--slow-readers", "1"), "at least one must read promptly"),
        (("--cancel", "2"), "2.0 is not in the range"),
    ],
)
def test_a_wrong_command_is_2_and_says_what_is_wrong(
    server: Server, arguments: tuple[str, ...], complaint: str
) -> None:
    result = load(*arguments, target=server.target)
    assert result.exit_code == 2
    assert complaint in result.output
    assert server.service.requests == []


def test_nobody_there_is_3(silent_target: str) -> None:
    result = load(*QUICK, target=silent_target)
    assert result.exit_code == 3
    assert "DENOISED_SERVER" in result.output


def test_metrics_that_cannot_be_had_are_1(server: Server) -> None:
    result = load(*QUICK, "--metrics", f"http://{server.target}/metrics", target=server.target)
    assert result.exit_code == 1
    assert "no metrics at" in result.output


def test_a_file_that_cannot_be_written_is_1_after_the_table(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = load(*QUICK, "--json", tmp_path / "file" / "load.json", target=server.target)
    assert result.exit_code == 1
    assert "goodput/s" in result.stdout
    assert "can't be written" in result.output


def test_a_profile_sets_what_is_not_given(server: Server, tmp_path: Path) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text(
        'about = "a test"\nrate = ["100"]\nduration = 0.1\narrivals = "constant"\nwarm_up = 0\nmix = ["8x8"]\n'
        'images = 1\nverify = false\ngate = ["ok = 5"]\n',
        encoding="utf-8",
    )
    assert load("--profile", profile, target=server.target).exit_code == 1
    assert load("--profile", profile, "--rate", "50", target=server.target).exit_code == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("speed = 3", "no option is called speed"),
        ("rate = [", "can't be read"),
        ('rate = ["fast"]', "write images a second"),
        ('method = "pigeon"', "pigeon"),
    ],
)
def test_a_wrong_profile_is_2(server: Server, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "profile.toml").write_text(text, encoding="utf-8")
    result = load("--profile", tmp_path / "profile.toml", target=server.target)
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_profiles_of_the_repository_are_valid(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[LoadPlan] = []

    def note(plan: LoadPlan) -> None:
        seen.append(plan)
        raise InternalError("that will do", reason="TEST")

    monkeypatch.setattr("denoised.load.session.carry_out", note)
    assert CliRunner().invoke(main, ["load", "--profile", str(profile)]).exit_code == 1
    (plan,) = seen
    assert {parse_gate("wrong = 0"), parse_gate("lost = 0")} <= set(plan.gates)


def test_no_profile_of_the_tests_has_a_gate_on_time() -> None:
    assert not re.search(r"_ms|late|goodput", (PROFILES / "smoke.toml").read_text(encoding="utf-8"))


def test_help_names_every_outcome_and_teaches_by_example() -> None:
    result = CliRunner().invoke(main, ["load", "--help"])
    assert result.exit_code == 0
    assert all(outcome.value in " ".join(result.output.split()) for outcome in Outcome)
    assert result.output.count("denoised load --") >= 5


def test_what_load_can_not_do_is_said_and_not_left_out(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b", encoding="ascii")
    for options in (["--tls"], ["--token-file", token]):
        result = load(*options, target="localhost:1")
        assert result.exit_code == 2
        assert "load speaks plain text" in result.output
