import math

import numpy as np
import pytest

from ganjax import errors
from ganjax.metrics import pixels
from ganjax.metrics.pixels import laplacian_swd, ms_ssim, ms_ssim_diversity, psnr, sliced_wasserstein, ssim


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_swd_of_shifted_noise():
    # Every projection is shifted by the shift's own projection: |shift| E|u_1| of a random unit vector u.
    points = np.random.default_rng(0).normal(size=(300, 10))
    shift = np.zeros(10)
    shift[3] = 2.5
    expected = 2.5 * math.gamma(5) / (math.sqrt(math.pi) * math.gamma(5.5))
    assert sliced_wasserstein(points, points + shift, projections=4000) == pytest.approx(expected, rel=0.03)
    # Sets have no order. These points have exact products; what others round to may hang on their place.
    exact = np.eye(10)[np.arange(300) % 10] * 2.0 ** (np.arange(300) % 7)[:, None]
    assert sliced_wasserstein(exact, exact[::-1]) == 0
    assert sliced_wasserstein(exact, 2 * exact) > 0.1


def test_swd_in_one_dimension_is_the_difference_of_sorted_values():
    a, b = np.array([0, 4, 1]), np.array([9, 2, 1])
    assert sliced_wasserstein(a[:, None], b[:, None], projections=17) == pytest.approx(7 / 3)


def test_the_pyramid_adds_up_to_the_image_and_its_filter_is_the_binomial():
    image = noise(1, 2, 21, 34, 3).astype(np.float32)
    small = pixels._shrink(image)
    assert small.shape == (2, 11, 17, 3)
    # At (3, 5) of the small one, by hand.
    taps = np.array([1, 4, 6, 4, 1]) / 16
    by_hand = np.einsum("i,j,ijc->c", taps, taps, image[0, 4:9, 8:13])
    np.testing.assert_allclose(small[0, 3, 5], by_hand, rtol=1e-5)
    # Enlarging keeps what is constant.
    np.testing.assert_allclose(pixels._enlarge(np.full((1, 11, 17, 3), 7.0), (21, 34)), 7, rtol=1e-6)
    # And a ramp, away from the mirrored borders.
    ramp = np.arange(34.0, dtype=np.float32)[None, None, :, None] * np.ones((1, 21, 1, 1), np.float32)
    again = pixels._enlarge(pixels._shrink(ramp), (21, 34))
    np.testing.assert_allclose(again[:, :, 6:-6], ramp[:, :, 6:-6], rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        ((32, 32), ["32x32", "16x16"]),
        ((70, 33), ["70x33", "35x17"]),
        ((28, 28), ["28x28"]),
        ((8, 9), ["8x9"]),
    ],
)
@pytest.mark.parametrize("channels", [1, 4])
def test_swd_levels(size, levels, channels):
    images = noise(2, 6, *size, channels)
    found = laplacian_swd(images, images, projections=16)
    assert list(found.per_level) == levels
    assert found.value == pytest.approx(np.mean(list(found.per_level.values())))
    assert found == laplacian_swd(images, images, projections=16)
    assert found.value < 150  # not 0: the places differ


def test_swd_tells_flat_images_from_noise_and_not_brightness(monkeypatch):
    rough, also_rough = noise(3, 24, 32, 32, 2), noise(4, 24, 32, 32, 2)
    flat = np.broadcast_to(noise(5, 24, 1, 1, 2), rough.shape)
    near = laplacian_swd(also_rough, rough, projections=32)
    far = laplacian_swd(flat, rough, projections=32)
    assert near.value < 60
    # Flat images have nothing at the fine level; normalised noise is projected to about N(0, 1): E|x|.
    assert far.per_level["32x32"] == pytest.approx(1000 * math.sqrt(2 / math.pi), rel=0.02)
    assert far.per_level["16x16"] > 300
    darker = (rough // 2).astype(np.uint8)
    assert laplacian_swd(darker, rough, projections=32).value < 60
    # In any chunks.
    monkeypatch.setattr(pixels, "_PIXELS", 32 * 32 * 2 * 7)
    monkeypatch.setattr(pixels, "_PROJECTED", 7 * 24 * pixels.SWD_PER_IMAGE)
    assert laplacian_swd(also_rough, rough, projections=32).value == pytest.approx(near.value, rel=1e-5)


def test_psnr_by_hand():
    images = np.zeros((3, 4, 5, 1), np.uint8)
    others = images.copy()
    others[1] = 255
    others[2, 0, 0, 0] = 20
    np.testing.assert_allclose(psnr(images, others), [np.inf, 0, 10 * np.log10(255**2 / 20)])
    np.testing.assert_allclose(
        psnr(images / 127.5 - 1, others / 127.5 - 1, data_range=2), psnr(images, others)
    )


def test_ssim_by_definition():
    x, y = noise(6, 2, 13, 12, 3), noise(7, 2, 13, 12, 3)
    y[1] = x[1] // 2 + y[1] // 2
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    expected = []
    for a, b in zip(x.astype(float), y.astype(float), strict=True):
        values = []
        for i in range(3):
            for j in range(2):
                for c in range(3):
                    p, q = a[i : i + 11, j : j + 11, c], b[i : i + 11, j : j + 11, c]
                    p_mean, q_mean = (window * p).sum(), (window * q).sum()
                    p_var, q_var = (window * (p - p_mean) ** 2).sum(), (window * (q - q_mean) ** 2).sum()
                    cov = (window * (p - p_mean) * (q - q_mean)).sum()
                    c1, c2 = 2.55**2, 7.65**2
                    values.append(
                        (2 * p_mean * q_mean + c1)
                        / (p_mean**2 + q_mean**2 + c1)
                        * (2 * cov + c2)
                        / (p_var + q_var + c2)
                    )
        expected.append(np.mean(values))
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-10)
    assert expected[1] > 0.5


def test_ssim_of_the_standard_definition_on_a_fixed_pair():
    # By scikit-image 0.26, with gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    a = (np.add.outer(np.arange(24) * 7, np.arange(30) * 5) % 256).astype(np.uint8)[None, :, :, None]
    b = np.clip(a.astype(int) + (np.indices((24, 30)).sum(0) % 5 * 9)[None, :, :, None], 0, 255)
    np.testing.assert_allclose(ssim(a, b.astype(np.uint8)), [0.7149165236547935], rtol=1e-9)


@pytest.mark.parametrize("shape", [(32, 32, 1), (21, 40, 3), (162, 176, 1)])
def test_ms_ssim_of_equal_images_is_1(shape):
    x = noise(8, 2, *shape)
    np.testing.assert_allclose(ms_ssim(x, x), 1, rtol=1e-12)
    np.testing.assert_allclose(ms_ssim(x, 255 - x), 0, atol=1e-12)  # each scale's structure is opposite
    other = ms_ssim(x, noise(9, 2, *shape))
    assert (other < 0.5).all()
    assert (other >= 0).all()


def test_ms_ssim_of_one_scale_at_a_time():
    # What differs in the finest detail alone differs at the first scale only.
    x = np.repeat(np.repeat(noise(10, 1, 96, 96, 1) // 2, 2, axis=1), 2, axis=2)
    checks = (np.indices((192, 192)).sum(0) % 2 * 2 - 1)[None, :, :, None] * 40
    y = (x + 60 + checks).astype(np.uint8)
    _, structure = pixels._similarity(x + 60.0, y.astype(float), 255)
    assert ms_ssim(x + 60, y)[0] == pytest.approx(float(structure[0]) ** 0.0448, rel=1e-9)


def test_ms_ssim_diversity_is_high_where_images_are_alike():
    one = np.repeat(noise(11, 1, 16, 16, 3), 6, axis=0)
    assert ms_ssim_diversity(one, pairs=10).value == pytest.approx(1)
    varied = noise(12, 6, 16, 16, 3)
    assert ms_ssim_diversity(varied, pairs=100).value < 0.5
    both = np.concatenate([one, varied])
    by_class = ms_ssim_diversity(both, pairs=40, labels=np.repeat([0, 1], 6))
    assert by_class.per_class[0] == pytest.approx(1)
    assert by_class.per_class[1] < 0.5


def test_refusals():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(errors.UsageError, match="as many images as real ones, at least 1, got 1 and 2"):
        laplacian_swd(images[:1], images)
    with pytest.raises(errors.UsageError, match="expected images of shape"):
        laplacian_swd(images[:, :16], images)
    with pytest.raises(errors.UsageError, match="uint8"):
        laplacian_swd(images / 255, images)
    with pytest.raises(errors.UsageError, match="images of 6x32: patches need at least 7"):
        laplacian_swd(images[:, :6], images[:, :6])
    with pytest.raises(errors.UsageError, match="one shape"):
        sliced_wasserstein(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(errors.UsageError, match="projections=0"):
        sliced_wasserstein(np.zeros((2, 3)), np.zeros((2, 3)), projections=0)
    with pytest.raises(errors.UsageError, match="images of 32x10: the window"):
        ssim(images[:, :, :10], images[:, :, :10])
    with pytest.raises(errors.UsageError, match="pairs of images"):
        ms_ssim(images, images[:1])
    with pytest.raises(errors.UsageError, match="data_range=0"):
        psnr(images, images, data_range=0)
