"""The references of PGGAN and StyleGAN in PyTorch: from copied weights, and what is drawn for ours, the same
outputs."""

import importlib.util
from typing import Any

import jax
import numpy as np
import pytest

from ganjax import random
from ganjax.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from ganjax.nets.style import StyleGenerator

if importlib.util.find_spec("torch") is None:
    pytest.skip("the peers need PyTorch: pip install -e '.[bench]'", allow_module_level=True)

import torch

from benchmarks.models import MODELS
from benchmarks.peers import PEERS, progressive
from benchmarks.peers.copying import copy_weights, count

BATCH, LATENT = 4, 5
SMALL: dict[str, Any] = {"channel_base": 8, "channel_max": 3}
HALVED: dict[str, Any] = {"channel_base": 6}
WIDTHS = (6, 3)  # at 4x4 and 8x8


def like(form: Any) -> Any:
    """Random variables, and each of them such that its place shows."""
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: draw.normal(size=x.shape).astype(x.dtype), form)


def compared(network: Any, peer: Any, x: np.ndarray, train: bool, keys: Any = None, **given: Any) -> Any:
    """The variables afterwards, once the outputs agree."""
    options = {} if keys is None else {"keys": keys}
    form = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=True))
    variables = like(form)
    stats = {name: tree for name, tree in variables.items() if name != "params"}
    copy_weights(peer, progressive.names(peer), variables["params"], stats)
    ours, after = network.apply(variables, x, train=train, mutable=list(stats), **options)
    theirs_in = torch.from_numpy(x if x.ndim == 2 else x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        theirs = peer.train(train)(theirs_in, **given).numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    assert np.std(ours) > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))
    return variables, after


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_style_generators(train):
    """With the same noise, the same other latents, and styles mixed at the same places."""
    latents = np.random.default_rng(1).normal(size=(BATCH, LATENT)).astype(np.float32)
    options: dict[str, Any] = {"style_size": 6, "mapping_layers": 2, "mixing": 0.5}
    network = StyleGenerator((8, 8, 2), 1, mapping_multiplier=0.5, **SMALL, **options)
    peer = progressive.StyleGenerator(LATENT, 3, 2, multiplier=0.5, levels=1, **options)
    keys = random.from_seeds(np.arange(4, 4 + BATCH))

    def drawn(name: str, draw: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(draw(random.streams(keys, name))))

    noise = [
        drawn(f"noise {i}", lambda k, i=i: random.normal(k, (4 << i // 2, 4 << i // 2)))[:, None]
        for i in range(4)
    ]
    does = drawn("mixed", lambda k: random.uniform(k, ())) < 0.5
    assert 0 < int(does.sum()) < BATCH
    first = torch.where(does, drawn("mixed from", lambda k: random.randint(k, 1, 4)), 4)
    others = drawn("mixed latents", lambda k: random.normal(k, (LATENT,)))
    given = progressive.Styled(noise, others, first[:, None])
    before, after = compared(network, peer, latents, train, keys, drawn=given)
    if train:
        moved = np.asarray(after["styles"]["mean"]) - before["styles"]["mean"]
        peer_moved = peer.mean.numpy() + (0.995 - 1) * before["styles"]["mean"]
        np.testing.assert_allclose(moved, peer_moved, atol=1e-5)  # the peer's mean began at 0


@pytest.mark.parametrize("blurred", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_discriminators(blurred):
    images = np.random.default_rng(1).normal(size=(BATCH, 8, 8, 2)).astype(np.float32)
    network = ProgressiveDiscriminator(1, blurred=blurred, **HALVED)
    compared(network, progressive.ProgressiveDiscriminator(WIDTHS, 2, blurred), images, True)


@pytest.mark.slow
def test_progressive_generators():
    latents = np.random.default_rng(1).normal(size=(BATCH, LATENT)).astype(np.float32)
    network = ProgressiveGenerator((8, 8, 2), 1, **HALVED)
    compared(network, progressive.ProgressiveGenerator(LATENT, WIDTHS, 2), latents, True)


@pytest.mark.parametrize("name", ["stylegan32", "pggan128", "pggan256"])
def test_the_models_that_are_measured_are_as_large(name):
    model, recipe = MODELS[name]("float32"), PEERS[name]()
    params, _, _ = jax.eval_shape(lambda: model.gan.init(jax.random.key(0), model.batch(4)))
    for player in ("generator", "discriminator"):
        assert count(params[player]) == sum(p.numel() for p in getattr(recipe, player).parameters())


def test_what_a_peer_draws():
    torch.manual_seed(0)
    peer = progressive.StyleGenerator(LATENT, 3, style_size=6, mapping_layers=1, levels=1)
    drawn = peer.draw(torch.zeros(500, LATENT))
    assert [tuple(x.shape) for x in drawn.noise] == [(500, 1, side, side) for side in (4, 4, 8, 8)]
    assert float((drawn.first < 4).float().mean()) == pytest.approx(0.9, abs=0.05)
    assert (int(drawn.first.min()), int(drawn.first.max())) == (1, 4)
