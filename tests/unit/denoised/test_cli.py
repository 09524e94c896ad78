"""The command line against a real server: what it writes, what it says, and how it exits."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from denoised import RetryPolicy
from denoised.cli import main
from denoised.cli.batch import Tally
from denoised.v1 import denoised_pb2 as pb
from tests.unit.denoised.conftest import CLEANED, Answers, Frames, Refusal, Server

BAD = grpc.StatusCode.INVALID_ARGUMENT


def run(*arguments: object, target: str = "", env: dict[str, str] | None = None, stdin: bytes | None = None) -> Result:
    server = ["--server", target] if target else []
    return CliRunner().invoke(main, [*map(str, arguments), *server], env=env, input=stdin)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images in two folders, and a text."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "trip/c.jpeg", "trip/notes.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_cleaned_and_described(server: Server, photos: Path, tmp_path: Path) -> None:
    result = run("clean", photos / "a.png", "-o", tmp_path / "new" / "clean.png", target=server.target)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new" / "clean.png").read_bytes() == b"cleaned:a.png"
    assert "24.5" in result.stdout
    assert "cdae 2" in result.stdout


def test_a_file_is_cleaned_by_a_model_that_does_not_estimate_noise(
    server: Server, photos: Path, tmp_path: Path
) -> None:
    server.service.noise_is_unknown = True
    result = run("clean", photos / "a.png", "-o", tmp_path / "clean.png", target=server.target)
    assert result.exit_code == 0, result.output
    assert "its level is unknown to this model, 1.50 s with cdae 2" in result.stdout


def test_the_ending_of_the_output_chooses_the_container(server: Server, photos: Path, tmp_path: Path) -> None:
    result = run(
        *("clean", photos / "a.png", "-o", tmp_path / "a.jpg", "--jpeg-quality", 80, "--strength", 0.5),
        *("--model", "cdae", "--black-level", 64, "--white-level", 4095),
        target=server.target,
    )
    assert result.exit_code == 0, result.output
    encoded = server.service.requests[0].image.encoded
    assert (encoded.black_level, encoded.white_level) == (64, 4095)
    assert server.service.requests[0].options == pb.DenoiseOptions(
        model="cdae", strength=0.5, output_container=pb.CONTAINER_JPEG, jpeg_quality=80
    )


def test_a_folder_for_a_file_keeps_the_name(server: Server, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run("clean", photos / "a.png", "-o", tmp_path / "out", target=server.target).exit_code == 0
    assert files_below(tmp_path / "out") == {"a.png": b"cleaned:a.png"}


def test_a_folder_is_mirrored_and_the_summary_adds_up(server: Server, photos: Path, tmp_path: Path) -> None:
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert result.exit_code == 0, result.output
    assert result.stdout == "in 4 = done 3 + skipped 1 + failed 0\n"
    assert files_below(tmp_path / "out") == {
        "a.png": b"cleaned:a.png",
        "b.JPG": b"cleaned:b.JPG",
        str(Path("trip", "c.jpeg")): b"cleaned:trip/c.jpeg",
    }


def test_existing_outputs_are_skipped_when_asked(server: Server, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"from before")
    result = run("clean", photos, "-o", tmp_path / "out", "--skip-existing", target=server.target)
    assert result.stdout == "in 4 = done 2 + skipped 2 + failed 0\n"
    assert (tmp_path / "out" / "a.png").read_bytes() == b"from before"


def test_one_bad_image_fails_alone_with_its_name(server: Server, photos: Path, tmp_path: Path) -> None:
    server.service.script = deque([Refusal(BAD, "not an image", reason="IMAGE_UNDECODABLE")])
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert result.exit_code == 1
    assert result.stdout == "in 4 = done 2 + skipped 1 + failed 1\n"
    assert "a.png: not an image" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_file_is_one_line_and_leaves_nothing(server: Server, photos: Path, tmp_path: Path) -> None:
    server.service.script = deque([Refusal(BAD, "not an image", reason="IMAGE_UNDECODABLE")])
    result = run("clean", photos / "a.png", "-o", tmp_path / "out" / "a.png", target=server.target)
    assert (result.exit_code, result.stderr) == (1, "Error: not an image\n")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    server: Server, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"from before")

    def disk_is_full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_is_full)
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert result.exit_code == 1
    assert result.stdout == "in 4 = done 0 + skipped 1 + failed 3\n"
    assert "a.png can't be written: No space left on device" in result.stderr
    assert files_below(tmp_path / "out") == {"a.png": b"from before"}


@pytest.mark.parametrize("place", ["photos", "photos/trip", "photos/new/deep", "link/new"])
def test_a_folder_is_never_written_into_itself(server: Server, photos: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    before = files_below(photos)
    result = run("clean", photos, "-o", tmp_path / place, target=server.target)
    assert result.exit_code == 2
    assert "the input" in result.stderr
    assert files_below(photos) == before


@pytest.mark.parametrize(
    ("output", "words"),
    [("photos/a.png", "input itself"), ("photos", "input itself"), ("out.webp", "'.webp'"), ("out", "'nothing'")],
)
def test_wrong_outputs_of_a_file_are_usage_errors(
    server: Server, photos: Path, tmp_path: Path, output: str, words: str
) -> None:
    result = run("clean", photos / "a.png", "-o", tmp_path / output, target=server.target)
    assert result.exit_code == 2
    assert words in result.stderr
    assert (photos / "a.png").read_bytes() == b"a.png"


def test_a_file_is_no_output_for_a_folder(server: Server, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert result.exit_code == 2
    assert "name a folder" in result.stderr


@pytest.mark.parametrize("arguments", [["--strength", "1.5"], ["--jpeg-quality", "0"], ["--timeout", "0"]])
def test_options_out_of_range_are_usage_errors(photos: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = run("clean", photos / "a.png", "-o", tmp_path / "x.png", *arguments)
    assert result.exit_code == 2
    assert "range" in result.stderr


def test_the_class_of_an_image_travels(server: Server, photos: Path, tmp_path: Path) -> None:
    for place, service_class in (("a.png", "interactive"), ("", "bulk")):
        target = tmp_path / service_class / place
        result = run("clean", photos / place, "-o", target, "--class", service_class, target=server.target)
        assert result.exit_code == 0, result.output
    found = [request.options.service_class for request in server.service.requests]
    assert found == [pb.SERVICE_CLASS_INTERACTIVE] + [pb.SERVICE_CLASS_BULK] * 3


def test_a_large_file_goes_in_chunks_by_itself_and_in_a_folder(server: Server, photos: Path, tmp_path: Path) -> None:
    def clean(frames: Frames, context: grpc.ServicerContext) -> Answers:
        data = b"".join(frame.chunk.data for frame in frames)
        yield pb.DenoiseStreamResponse(chunk=pb.ImageChunk(data=CLEANED + data[:9], last=True))
        response = pb.DenoiseResponse(image=pb.Image(encoded=pb.EncodedImage()))
        yield pb.DenoiseStreamResponse(result=pb.DenoiseResult(response=response))

    server.service.limits = pb.Limits(message_bytes=300_000, image_pixels=10**6, chunked_image_pixels=10**6)
    server.service.uploads.extend([clean] * 2)
    (photos / "b.JPG").write_bytes(b"large".ljust(300_000))
    alone = run("clean", photos / "b.JPG", "-o", tmp_path / "b.jpg", target=server.target)
    among = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert (alone.exit_code, among.stdout) == (0, "in 4 = done 3 + skipped 1 + failed 0\n")
    assert (tmp_path / "b.jpg").read_bytes() == (tmp_path / "out" / "b.JPG").read_bytes() == b"cleaned:large    "


def test_no_server_is_exit_code_three_for_all_commands(silent_target: str, photos: Path, tmp_path: Path) -> None:
    for arguments in (
        ("clean", photos / "a.png", "-o", tmp_path / "x.png"),
        ("clean", photos, "-o", tmp_path / "out"),
        ("models",),
    ):
        result = run(*arguments, env={"DENOISED_SERVER": silent_target})
        assert result.exit_code == 3, result.output
        assert silent_target in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_server_still_adds_up(silent_target: str, photos: Path, tmp_path: Path) -> None:
    result = run("clean", photos, "-o", tmp_path / "out", target=silent_target)
    assert result.stdout == "in 4 = done 0 + skipped 1 + failed 3\n"


def test_models_are_a_table_with_the_default_marked(server: Server) -> None:
    result = run("models", target=server.target)
    assert result.exit_code == 0
    header, older, newer = result.stdout.splitlines()
    assert header.split() == [
        *("NAME", "VERSION", "KIND", "PRECISION", "CHANNELS", "SIZE", "SIGMA", "GMAC/MP", "LICENCE", "SUMMARY")
    ]
    assert older.split() == [
        *("cdae", "1", "conv_dae", "fp32", "3", "any", "0-55", "12.5", "Apache-2.0", "For", "photographs.")
    ]
    assert newer.startswith("*  cdae")
    assert newer.split()[3:7] == ["conv_dae", "int8", "3", "28x28"]


def test_models_are_objects_when_asked(server: Server) -> None:
    lines = run("models", "--json", target=server.target).stdout.splitlines()
    assert [(json.loads(line)["name"], json.loads(line)["version"]) for line in lines] == [("cdae", "1"), ("cdae", "2")]


# --- pipes, patterns, formats, shards ------------------------------------------------------------------------------


def test_a_pipe_has_the_image_alone_and_all_that_is_said_beside_it(server: Server, photos: Path) -> None:
    result = run("clean", "-", "-o", "-", target=server.target, stdin=b"an image")
    assert (result.exit_code, result.stdout_bytes) == (0, b"cleaned:an image")
    assert "24.5" in result.stderr
    result = run("clean", photos / "a.png", "-o", "-", "--format", "jpeg", target=server.target)
    assert result.stdout_bytes == b"cleaned:a.png"
    assert server.service.requests[-1].options.output_container == pb.CONTAINER_JPEG


def test_a_pipe_may_end_in_a_file(server: Server, tmp_path: Path) -> None:
    result = run("clean", "-", "-o", tmp_path / "a.png", target=server.target, stdin=b"an image")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "a.png").read_bytes() == b"cleaned:an image"


def test_a_pipe_that_fails_says_nothing_on_standard_output(server: Server) -> None:
    server.service.script = deque([Refusal(BAD, "not an image", reason="IMAGE_UNDECODABLE")])
    result = run("clean", "-", "-o", "-", target=server.target, stdin=b"x")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: not an image\n")


@pytest.mark.parametrize("arguments", [["-", "--json"], ["-", "a.png"], ["-", "--dry-run"]])
def test_a_pipe_is_for_one_image(server: Server, arguments: list[str]) -> None:
    result = run("clean", *arguments, "-o", "-", target=server.target, stdin=b"x")
    assert result.exit_code == 2
    assert "one image" in result.stderr


def test_a_pattern_and_a_format_choose_inputs_and_outputs(server: Server, photos: Path, tmp_path: Path) -> None:
    (photos / "a.jpg").write_bytes(b"twin")
    result = run(*("clean", f"{photos}/**/*.*", "-o", tmp_path / "out", "--format", "png"), target=server.target)
    assert (result.exit_code, result.stdout) == (1, "in 5 = done 3 + skipped 1 + failed 1\n")
    assert files_below(tmp_path / "out") == {
        "a.png": b"cleaned:twin",
        "b.png": b"cleaned:b.JPG",
        "trip/c.png": b"cleaned:trip/c.jpeg",
    }
    assert "a.jpg too" in result.stderr
    assert {request.options.output_container for request in server.service.requests} == {pb.CONTAINER_PNG}


def test_shards_share_a_folder(server: Server, photos: Path, tmp_path: Path) -> None:
    for index in range(2):
        assert (
            run("clean", photos, "-o", tmp_path / "out", "--shard", f"{index}/2", target=server.target).exit_code == 0
        )
    assert len(files_below(tmp_path / "out")) == 3
    assert len(server.service.requests) == 3
    result = run("clean", photos, "-o", tmp_path / "out", "--shard", "2/2", target=server.target)
    assert (result.exit_code, "i/n" in result.stderr) == (2, True)


def test_a_slash_makes_a_folder_of_the_output_of_one_file(server: Server, photos: Path, tmp_path: Path) -> None:
    assert run("clean", photos / "a.png", "-o", f"{tmp_path}/new/", target=server.target).exit_code == 0
    assert files_below(tmp_path / "new") == {"a.png": b"cleaned:a.png"}


def test_an_ending_and_a_format_that_disagree_are_a_usage_error(photos: Path, tmp_path: Path) -> None:
    result = run("clean", photos / "a.png", "-o", tmp_path / "a.png", "--format", "jpeg")
    assert result.exit_code == 2
    assert "by its ending" in result.stderr


# --- what is said --------------------------------------------------------------------------------------------------


def test_a_dry_run_says_all_and_sends_nothing(server: Server, photos: Path, tmp_path: Path) -> None:
    Image.new("L", (1000, 500)).save(photos / "a.png")
    result = run("clean", photos, "-o", tmp_path / "out", "--dry-run", target=server.target)
    assert result.exit_code == 0, result.output
    assert f"{photos / 'a.png'} -> {tmp_path / 'out' / 'a.png'}  1000 x 500" in result.stdout
    assert "in 4 = to do 3 + skipped 1 + failed 0; 0.5 megapixels" in result.stdout
    lines = run("clean", photos, "-o", tmp_path / "out", "--dry-run", "--json").stdout.splitlines()
    *each, sums = map(json.loads, lines)
    assert [found["state"] for found in each] == ["to do", "to do", "to do", "skipped"]
    assert (sums["in"], sums["to_do"], sums["pixels"]) == (4, 3, 500_000)
    assert not (tmp_path / "out").exists()
    assert server.service.requests == []


def test_json_has_an_object_for_each_input_and_one_with_the_sum(server: Server, photos: Path, tmp_path: Path) -> None:
    server.service.script = deque([Refusal(BAD, "not an image", reason="IMAGE_UNDECODABLE")])
    result = run("clean", photos, "-o", tmp_path / "out", "--json", target=server.target)
    assert result.exit_code == 1
    *each, sums = map(json.loads, result.stdout.splitlines())
    assert sums == {"in": 4, "done": 2, "skipped": 1, "failed": 1}
    (failed,) = (found for found in each if found["state"] == "failed")
    assert (failed["reason"], failed["message"]) == ("IMAGE_UNDECODABLE", "not an image")
    (done, _) = (found for found in each if found["state"] == "done")
    assert (done["noise_sigma"], done["model"], done["model_version"]) == (24.5, "cdae", "2")
    assert Path(done["output"]).exists()


def test_a_run_that_is_stopped_says_so_and_adds_up(
    server: Server, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("denoised.cli.batch.write_whole", stop)
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert (result.exit_code, result.stdout) == (1, "in 4 = done 0 + skipped 1 + failed 3\n")
    assert "3 images not done; --skip-existing" in result.stderr


def test_a_sum_that_does_not_add_up_is_no_success() -> None:
    tally = Tally(2, done=1)
    with pytest.raises(AssertionError, match=r"in 2 = done 1 \+ skipped 0 \+ failed 0"):
        tally.check()


# --- bad places and times --------------------------------------------------------------------------------------------


def test_a_file_that_vanishes_fails_alone(server: Server, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").unlink()
    (photos / "a.png").symlink_to(tmp_path / "nowhere")
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert (result.exit_code, result.stdout) == (1, "in 4 = done 2 + skipped 1 + failed 1\n")
    assert "a.png can't be read: No such file" in result.stderr


def test_an_output_that_can_not_be_written_fails_alone(server: Server, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trip").write_bytes(b"a file where a folder should be")
    result = run("clean", photos, "-o", tmp_path / "out", target=server.target)
    assert (result.exit_code, result.stdout) == (1, "in 4 = done 2 + skipped 1 + failed 1\n")
    assert "c.jpeg can't be written" in result.stderr


def test_what_killed_runs_left_is_removed_and_nothing_else(server: Server, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    host = socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    kept = [f".b.png.{host}-{os.getpid()}.part", ".c.png.elsewhere-1.part", ".notes.part", "d.png.part"]
    for name in (f".a.png.{host}-{dead.pid}.part", ".e.png.elsewhere-2.part", *kept):
        (out / name).write_bytes(b"half")
    os.utime(out / ".e.png.elsewhere-2.part", (0, 0))
    assert run("clean", photos, "-o", out, target=server.target).exit_code == 0
    assert sorted(path.name for path in out.iterdir() if path.name.endswith(".part")) == sorted(kept)


def test_a_server_that_goes_away_is_given_up_on_and_the_sum_holds(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoised.cli.batch.PATIENT", RetryPolicy(try_count=1))
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number:02}.png").write_bytes(b"x")
    server.service.script = deque([None] * 5 + [Refusal(grpc.StatusCode.UNAVAILABLE)] * 100)
    result = run("clean", tmp_path / "in", "-o", tmp_path / "out", target=server.target)
    assert result.exit_code == 3
    assert result.stdout == "in 40 = done 5 + skipped 0 + failed 35\n"
    assert len(server.service.requests) < 40, "what is left is not tried"


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0, result.output
    assert f"_DENOISED_COMPLETE={shell}_complete" in result.stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine: install the bash package")
    command = tmp_path / "denoised"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m denoised.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    script = """
        eval "$(denoised completion bash)"
        complete_words() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _denoised_completion denoised
            echo "${COMPREPLY[@]}"
        }
        complete_words denoised c
        complete_words denoised clean --ski
        complete_words denoised clean --class b
    """
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [bash, "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["clean compare completion", "--skip-existing", "bulk"]


def test_help_teaches_by_example() -> None:
    result = run("clean", "--help")
    assert "denoised clean photos/ -o cleaned/" in result.stdout
    assert "Exit codes:" in result.stdout
    assert "[interactive|normal|bulk]" in result.stdout
    assert "3 for each megapixel" in " ".join(result.stdout.split())
