import json
import subprocess
import sys

import pytest

import ganjax

LOOK = """
import json, sys
import ganjax
heavy = sorted({"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "numpy"} & set(sys.modules))
print(json.dumps([heavy, ganjax.every(2)(1), "jax" in sys.modules]))
"""


def test_importing_ganjax_imports_no_jax():
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=120, check=True
    )
    heavy, due, afterwards = json.loads(done.stdout)
    assert heavy == []
    assert due is True
    assert afterwards is True  # the first name that is used brings it


def test_every_public_name_is_there():
    for name in ganjax.__all__:
        assert getattr(ganjax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ganjax.trian  # noqa: B018
