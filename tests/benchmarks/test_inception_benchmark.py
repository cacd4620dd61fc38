"""The definitions that the benchmark holds ours to, on sets that are known, and what it refuses."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import inception
from ganjax.metrics.frechet import frechet_distance, gaussian_statistics
from ganjax.metrics.kernel import kernel_distance

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="the reference needs PyTorch: pip install -e '.[bench]'"
)


def sets(count=30, dim=8):
    draw = np.random.default_rng(0)
    return draw.normal(size=(count, dim)), 0.5 + 2 * draw.normal(size=(count + 4, dim))


def test_definitions_agree_with_ours_on_small_sets():
    for dim in (8, 50):  # with more dimensions than features too, where the covariances are singular
        a, b = sets(dim=dim)
        ours = frechet_distance(*gaussian_statistics(a), *gaussian_statistics(b))
        np.testing.assert_allclose(inception.fid_by_definition(a, b), ours, rtol=1e-5)
        assert abs(inception.fid_by_definition(a, a)) < 1e-4
        kid = kernel_distance(a, b[:30], subsets=1, subset_size=30).value
        np.testing.assert_allclose(inception.kid_by_definition(a, b[:30]), kid, rtol=1e-9)


def test_precision_and_recall_of_sets_that_are_known():
    a, _ = sets()
    assert inception.precision_recall_by_definition(a, a) == (1, 1)
    assert inception.precision_recall_by_definition(a, a + 100) == (0, 0)
    # One point again and again lies among the others, and they don't lie on it.
    precision, recall = inception.precision_recall_by_definition(a, np.repeat(a[:1], 10, 0))
    assert (precision, recall) == (1, 1 / len(a))


@needs_torch
@pytest.mark.parametrize("name", inception.RESIZERS)
def test_the_resizers_are_written_twice_and_agree(name):
    from ganjax.metrics.resizing import inception_input

    for size in (12, 400):
        images = inception.blots(2, size)
        theirs = inception.reference_input(images, name).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(inception_input(jnp.asarray(images), name), theirs, atol=2e-5)


def test_made_up_images_are_images():
    images = inception.blots(3)
    assert (images.shape, images.dtype) == ((3, 32, 32, 3), np.uint8)
    assert 20 < images.std() < 100
    np.testing.assert_array_equal(images, inception.blots(3))


def test_missed_bars_are_named():
    good = dict.fromkeys(inception.BARS, 0.0) | {"resize": "tf1", "speed_ratio": 1.2}
    assert inception.missed(good) == []
    assert inception.missed(good | {"kid_relative": 0.5}) == ["tf1: kid_relative 0.5 above 0.001"]
    assert inception.missed(good | {"speed_ratio": 0.5}) == ["tf1: 0.50 times PyTorch's images a second"]


@needs_torch
def test_wrong_commands_are_answered_in_one_line(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", a=np.ones(1))
    for arguments, code, message in (
        (["--resize=tf2"], 2, "--resize=tf2: expected some of tf1, pytorch, clean"),
        (["--count=2"], 2, "--count=2: expected at least 10"),
        (["--images=none.npz"], 1, "none.npz"),
        ([], 2, "PyTorch runs a TorchScript archive; this one is npz"),
        ([f"--weights={tmp_path}/none"], 1, "weights can't be read"),
    ):
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(inception.main([f"--weights={tmp_path}/x.npz", *arguments]))
        assert ended.value.code == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
