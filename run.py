"""Trains and uses GANs: python run.py --experiment=cgan_mnist [--mode=train] (--help tells the rest)."""

import sys

from ganjax.cli import main

if __name__ == "__main__":
    sys.exit(main(package="experiments"))
