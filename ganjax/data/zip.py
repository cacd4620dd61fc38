"""Several sources read side by side: labelled and unlabelled images, two domains."""

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np

from ganjax.data.source import Source
from ganjax.errors import UsageError
from ganjax.gan import Batch, Context


class Zip:
    """Sources joined into nested batches, each in an order of its own. A `Source`.

    Attributes:
      sources: key -> source; batches are trees with these keys.
    """

    def __init__(self, sources: Mapping[str, Source]):
        """Raises UsageError if there is no source."""
        if not sources:
            raise UsageError("Zip of no sources: expected at least one")
        self.sources = dict(sources)

    @property
    def skipped(self) -> list[str]:
        """A line for every damaged image that was met and replaced, in any of the sources."""
        return [line for source in self.sources.values() for line in getattr(source, "skipped", ())]

    def check(self, seed: int) -> None:
        """Raises UsageError where one of the sources has too few examples."""
        for key, source in self.sources.items():
            check = getattr(source, "check", lambda seed: None)
            check(_seed(seed, key))

    def indices(self, seed: int, start: int, count: int) -> dict[str, Any]:
        """key -> that source's indices, under a seed made from `seed` and the key.

        With one seed for all, two sets of one size would always show the same pairs.
        """
        return {key: source.indices(_seed(seed, key), start, count) for key, source in self.sources.items()}

    def example(self, count: int) -> dict[str, Any]:
        """key -> zeros of the form of that source's examples."""
        return {key: source.example(count) for key, source in self.sources.items()}

    def read(self, indices: Mapping[str, Any]) -> dict[str, Any]:
        """key -> that source's raw examples."""
        return {key: source.read(indices[key]) for key, source in self.sources.items()}

    def resident(self) -> dict[str, Any] | None:
        """key -> that source's whole set; None if any of them is too large."""
        whole = {}
        for key, source in self.sources.items():
            whole[key] = source.resident()
            if whole[key] is None:
                return None
        return whole

    def transform(self, batch: Batch, context: Context) -> Batch:
        """key -> what that source makes of its examples, each with a stream of its own."""
        return {
            key: source.transform(batch[key], context._replace(key=context.stream(key)))
            for key, source in self.sources.items()
        }


def _seed(seed: int, key: str) -> int:
    words = np.random.SeedSequence(seed, spawn_key=(crc32(key.encode()),)).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])
