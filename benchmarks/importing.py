"""How long an import of NVIDIA's networks takes, and how much memory.

    python -m benchmarks.importing [--resolution=256] [--workdir=DIR]

Writes a file of G, D and G_ema with random weights, at the official full width, and imports it, each in a
process of its own. Printed are the file's size and, of the import, the seconds on the clock, those of the
cores, and the most memory that its process held.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks.command_line import Parser
from benchmarks.official_files import contents, file_of

RUN = pathlib.Path(__file__).parents[1] / "run.py"


def write(path: pathlib.Path, resolution: int) -> None:
    """A file with the channels that the official settings for this resolution have."""
    base = 32768 if resolution >= 512 else 16384
    channels = tuple(min(base // (4 << level), 512) for level in range(resolution.bit_length() - 2))
    path.write_bytes(file_of(contents(channels=channels, latent=512, style=512, layers=8, fp16=4)))


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=256, choices=[8 << i for i in range(8)])
    parser.add_argument("--workdir", type=pathlib.Path, help="for the files; default: a temporary folder")
    parser.add_argument("--write", type=pathlib.Path, help="only write the file, there")
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write, arguments.resolution)
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
        source = pathlib.Path(folder) / "network.pkl"
        # Not in this process, whose size would count for its children.
        options = [f"--resolution={arguments.resolution}", f"--write={source}"]
        subprocess.run([sys.executable, "-m", "benchmarks.importing", *options], check=True)
        start = time.monotonic()
        command = [sys.executable, str(RUN), "--mode=import", f"--source={source}", f"--out={folder}/run"]
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        seconds, size = time.monotonic() - start, source.stat().st_size / 1e6
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    print(
        f"{size:.1f} MB: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of the cores, "
        f"{peak:.1f} MB at most, {peak / size:.2f} times the file"
    )
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
