"""What the benchmarks' command lines share. Imports neither jax nor torch."""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# Of benchmarks.models, which imports jax
MODELS = (
    "cgan_book",
    "cgan_mnist",
    "dcgan64",
    "sngan_resnet32",
    "biggan32",
    "pix2pix64",
    "cyclegan128",
    "pggan32",
    "stylegan32",
    "stylegan2_32",
    "pggan128",
    "pggan256",
    "stylegan2_128",
    "stylegan2_256",
)
PEERLESS = ("stylegan2_128", "stylegan2_256")  # of these: what they are measured beside is published


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """An argument's type: one of the `choices`."""

    def parse(value: str) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(f"{value!r}: expected one of {', '.join(choices)}")
        return value

    return parse


def positive(convert: type) -> Callable[[str], Any]:
    """An argument's type: a finite number above 0, as `convert` reads it."""

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
        return value

    return parse


def require_torch(parser: Parser) -> None:
    """Ends the program unless PyTorch is installed."""
    if importlib.util.find_spec("torch") is None:
        parser.error("the peers need PyTorch: pip install -e '.[bench]'")
