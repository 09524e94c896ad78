"""The line that says how far a run is, by numbers and without a clock."""

import io

from denoised.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_terminal_is_redrawn_and_left_clean() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(40, stream, clock=clock)
    for number in range(10):
        clock.now_s += 0.5
        progress.settled(f"{number}.png", is_failed=number == 3)
    assert stream.getvalue().rpartition("\r\x1b[K")[2] == "10/40  25%  2 images/s  0:15 left  1 failed  9.png"
    assert "\n" not in stream.getvalue()
    progress.say("3.png: broken")
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[K3.png: broken\n")


def test_a_terminal_is_not_drawn_more_often_than_it_can_be_read() -> None:
    stream, clock = Terminal(), Clock()
    progress = Progress(1000, stream, clock=clock)
    for _ in range(1000):
        clock.now_s += 0.001
        progress.settled("a.png", is_failed=False)
    assert stream.getvalue().count("\x1b[K") <= 10


def test_a_file_gets_a_plain_line_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(10_000, stream, clock=clock)
    for _ in range(100):
        clock.now_s += 0.35
        progress.settled("a.png", is_failed=False)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("29/10000  0%  2.86 images/s  58:10 left  a.png")
    assert "\x1b" not in stream.getvalue()


def test_a_long_run_says_hours_and_a_lone_image_its_share() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1001, stream, clock=clock)
    clock.now_s += 60
    progress.settled("a.png", is_failed=False)
    assert "16:40:00 left" in stream.getvalue()
    clock.now_s += 60
    progress.under_way("scan.png", 0.421)
    assert stream.getvalue().splitlines()[-1] == "scan.png: 42%"
