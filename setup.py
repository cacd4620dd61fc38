"""The one thing that pyproject.toml can't say: which packages there are.

The top-level folder experiments/ is installed as `ganjax.experiments`. setuptools' automatic discovery
(`packages.find`) names a package after its folder, and the alternative is a list of packages by hand, which
loses a new subpackage without a word. So discovery happens here; all else is in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["ganjax", "ganjax.*"]),
        *("ganjax." + name for name in find_packages(include=["experiments", "experiments.*"])),
    ],
    package_dir={"ganjax.experiments": "experiments"},
)
