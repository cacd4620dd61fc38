"""The reference of StyleGAN2 in PyTorch: from copied weights the same outputs. Its noise is its own."""

import importlib.util
from typing import Any

import jax
import numpy as np
import pytest

from ganjax.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

if importlib.util.find_spec("torch") is None:
    pytest.skip("the peers need PyTorch: pip install -e '.[bench]'", allow_module_level=True)

import torch

from benchmarks.models import MODELS
from benchmarks.peers import PEERS, stylegan2
from benchmarks.peers.copying import copy_weights, count

SMALL: dict[str, Any] = {"channel_base": 8, "channel_max": 3}


def compared(network: Any, peer: Any, x: np.ndarray) -> None:
    form = jax.eval_shape(lambda: network.init(jax.random.key(0), x, train=True))
    draw = np.random.default_rng(0)  # of every variable, so that each one's place shows
    variables = jax.tree.map(lambda x: draw.normal(size=x.shape).astype(x.dtype), form)
    stats = {name: tree for name, tree in variables.items() if name != "params"}
    copy_weights(peer, stylegan2.names(peer), variables["params"], stats)
    ours = network.apply(variables, x, train=False)
    theirs_in = torch.from_numpy(x if x.ndim == 2 else x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        theirs = peer.eval()(theirs_in).numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    assert np.std(ours) > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))


def test_generators():
    latents = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    network = StyleGAN2Generator(
        (8, 8, 2), 1, style_size=6, mapping_layers=2, mapping_multiplier=0.01, **SMALL
    )
    compared(network, stylegan2.StyleGAN2Generator(5, 6, 3, 2, levels=1), latents)


def test_discriminators():
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 2)).astype(np.float32)
    compared(StyleGAN2Discriminator(1, **SMALL), stylegan2.StyleGAN2Discriminator(3, 2, 1), images)


def test_the_models_that_are_measured_are_as_large():
    model, recipe = MODELS["stylegan2_32"]("float32"), PEERS["stylegan2_32"]()
    params, _, _ = jax.eval_shape(lambda: model.gan.init(jax.random.key(0), model.batch(4)))
    for player in ("generator", "discriminator"):
        assert count(params[player]) == sum(p.numel() for p in getattr(recipe, player).parameters())
