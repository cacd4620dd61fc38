import io
import math
import os
import select

import pytest

from ganjax.report.progress import Progress, duration, number


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.5, "1s"),
        (45.2, "45s"),
        (59.6, "1m00s"),
        (220, "3m40s"),
        (3599.6, "1h00m"),
        (3720, "1h02m"),
        (86399, "1d00h"),
        (86400 * 2 + 3600 * 3 + 60, "2d03h"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.21, "1.21"),
        (0.85123, "0.8512"),
        (12345.6, "12346"),
        (2.5e7, "2.5e+07"),
        (1e-5, "1e-05"),
        (0, "0"),
        (math.nan, "nan"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_plain_lines():
    out, clock = io.StringIO(), Clock()
    progress = Progress(2500, file=out, clock=clock)
    progress.update(280, 561.04, {"discriminator_loss": 1.21, "generator_loss": 0.85})
    clock.now += 5
    progress.update(300)  # too soon for a line
    clock.now += 19.2
    progress.update(500, 561.04, {"discriminator_loss": 1.21, "generator_loss": 0.85})
    progress.message("saved step 500")
    clock.now += 1
    progress.update(2500, 600)  # soon, but the last
    assert out.getvalue().count("\n") == 4
    progress.close()
    progress.close()
    # 2000 steps left, and 220 took 24.2 s
    assert out.getvalue().splitlines() == [
        "step 280/2500  11%  561 images/s  discriminator_loss 1.21  generator_loss 0.85",
        "step 500/2500  20%  561 images/s  left 3m40s  discriminator_loss 1.21  generator_loss 0.85",
        "saved step 500",
        "step 2500/2500  100%  600 images/s  discriminator_loss 1.21  generator_loss 0.85",
    ]


def test_close_shows_an_update_that_waited():
    out, clock = io.StringIO(), Clock()
    with Progress(10, initial=4, file=out, clock=clock, unit="samples") as progress:
        progress.update(5)
        clock.now += 1
        progress.update(6, 3.25)
    assert out.getvalue().splitlines() == ["step 5/10  50%", "step 6/10  60%  3.2 samples/s  left 4s"]


def test_metrics_are_read_only_when_shown():
    class Unread:
        def __float__(self) -> float:
            raise AssertionError("waited for a device array that is not shown")

    out, clock = io.StringIO(), Clock()
    progress = Progress(10, file=out, clock=clock)
    progress.update(1, metrics={"loss": 1})
    progress.update(2, metrics={"loss": Unread()})


def test_time_left_forgets_the_start():
    out, clock = io.StringIO(), Clock()
    progress = Progress(1000, file=out, clock=clock)
    progress.update(0)
    clock.now += 60  # compilation
    for step in range(1, 101):
        progress.update(step)
        clock.now += 1
    clock.now += 10
    progress.update(101)
    # The window holds 64 updates at most, all of them after the compilation.
    assert "left 17m" in out.getvalue().splitlines()[-1]


def test_a_file_is_no_terminal_and_stderr_is_the_default(capsys):
    with Progress(2) as progress:
        progress.update(2, 1.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "step 2/2  100%  1 images/s\n"


def test_nothing_to_do_divides_by_nothing():
    out = io.StringIO()
    with Progress(0, file=out) as progress:
        progress.update(0)
    assert out.getvalue() == "step 0/0  100%\n"


def test_bar_on_a_terminal():
    out, clock = io.StringIO(), Clock()
    progress = Progress(200, initial=50, file=out, terminal=True, clock=clock)
    progress.update(60, 561, {"generator_loss": 0.85})
    clock.now += 0.01
    progress.update(61, 561, {"generator_loss": 9.99})  # too soon to draw
    clock.now += 10
    progress.message("saved step 100")
    progress.update(100, 561, {"generator_loss": 0.75})
    progress.close()
    text = out.getvalue()
    assert "step 50/200  25% |" in text
    assert "step 60/200  30% |" in text
    assert "9.99" not in text
    assert "\rsaved step 100\n" in text.replace(" ", " ")
    assert "561 images/s  left 25s  generator_loss 0.75" in text
    assert text.endswith("\n")
    assert text.rstrip("\n").rpartition("\r")[2].startswith("step 100/200  50% |")


@pytest.mark.parametrize(("rows", "text"), [(24, "step 1/2  50% |"), (0, "step 1/2  50%\r\n")])
def test_a_terminal_is_found_and_one_without_a_size_gets_lines(rows, text):
    termios = pytest.importorskip("termios")  # where there are no pseudo-terminals, skip
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (rows, 80 if rows else 0))
    seen = ""
    with os.fdopen(follower, "w") as file:
        with Progress(2, file=file) as progress:
            progress.update(1)
        # What was written arrives in pieces, and a little later.
        while text not in seen and select.select([leader], [], [], 2.0)[0]:
            seen += os.read(leader, 10_000).decode(errors="replace")
    os.close(leader)
    assert text in seen
