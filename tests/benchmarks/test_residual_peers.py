"""The networks of the papers on labelled images: as many parameters as the references in PyTorch, and from
copied weights the same outputs."""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.nets.residual import ResidualDiscriminator, ResidualGenerator
from tests.nets.networks import run, settled_variables, shapes

if importlib.util.find_spec("torch") is None:
    pytest.skip("the peers need PyTorch: pip install -e '.[bench]'", allow_module_level=True)

import torch

from benchmarks.peers import residual
from benchmarks.peers.copying import copy_weights, count

CLASSES, BATCH = 10, 3
# By name: image side, channels, latents, widths of both, and what the networks are told.
NETWORKS: dict[str, tuple[int, int, int, tuple[int, int], dict[str, Any]]] = {
    "conditional SNGAN": (32, 3, 8, (3, 2), {}),
    "SAGAN": (28, 1, 8, (8, 8), {"attention": 14}),
    "BigGAN": (32, 3, 12, (3, 2), {"embedding": 6, "attention": 16}),
    "BigGAN at 64": (64, 3, 10, (1, 1), {"embedding": 6, "attention": 32}),
    "BigGAN-deep": (32, 3, 8, (2, 2), {"embedding": 6, "attention": 8, "deep": True}),
    "BigGAN-deep at 64": (64, 3, 8, (1, 1), {"embedding": 6, "attention": 32, "deep": True}),
}
# At the papers' widths, counted without being made: side, latents, widths, and what the networks are told.
FULL: dict[str, tuple[int, int, tuple[int, int], dict[str, Any], int]] = {
    "conditional SNGAN": (32, 128, (64, 32), {}, 10),
    "SAGAN": (128, 128, (64, 64), {"attention": 32}, 1000),
    "BigGAN": (128, 120, (96, 96), {"embedding": 128, "attention": 64}, 1000),
    "BigGAN-deep": (128, 128, (128, 128), {"embedding": 128, "attention": 64, "deep": True}, 1000),
}


def made(name: str, size, channels, latent_size, widths, options, classes=CLASSES):
    """Our generator and discriminator, and theirs."""
    spectral = "SNGAN" not in name
    of_d = {key: value for key, value in options.items() if key != "embedding"}
    ours = (
        ResidualGenerator((size, size, channels), classes, widths[0], spectral=spectral, **options),
        ResidualDiscriminator(classes, widths[1], **of_d),
    )
    theirs = (
        residual.ResidualGenerator(
            size, classes, latent_size, widths[0], channels, spectral=spectral, **options
        ),
        residual.ResidualDiscriminator(size, classes, widths[1], channels, **of_d),
    )
    return ours, theirs


@pytest.mark.parametrize(
    "name", [n if n == "SAGAN" else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS]
)
def test_outputs_agree(name):
    """In training, where batch statistics and a power iteration are part of it, and in evaluation."""
    size, channels, latent_size, widths, options = NETWORKS[name]
    torch.manual_seed(0)
    networks, peers = made(name, size, channels, latent_size, widths, options)
    draw = np.random.default_rng(0)
    labels = np.array([7, 0, 7], np.int32)
    latents = draw.normal(size=(BATCH, latent_size)).astype(np.float32)
    images = draw.uniform(-1, 1, (BATCH, size, size, channels)).astype(np.float32)
    both = shapes(*networks, (size, size, channels), latent_size=latent_size, labels=jnp.asarray(labels))
    for network, peer, (_, form), x in zip(networks, peers, both, (latents, images), strict=True):
        variables = settled_variables(form)
        params, stats = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        copy_weights(peer, residual.names(peer), params, stats)
        theirs_in = torch.from_numpy(x if x.ndim == 2 else x.transpose(0, 3, 1, 2).copy())
        for train in (False, True):  # evaluation first: training moves the peer's statistics
            ours, after = run(network, variables, x, labels, train=train)
            with torch.no_grad():
                theirs = peer.train(train)(theirs_in, torch.from_numpy(labels).long()).numpy()
            theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
            scale = max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale)
        for key, path in residual.names(peer).items():
            part: Any = peer.get_submodule(key)
            vectors = after.get("spectral", {})
            for step in path.split("/"):
                vectors = vectors.get(step, {})
            if hasattr(part, "u"):
                np.testing.assert_allclose(vectors["u"], part.u.numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_parameters_are_as_many(name):
    size, latent_size, widths, options, classes = FULL[name]
    with torch.device("meta"):
        networks, peers = made(name, size, 3, latent_size, widths, options, classes)
    both = shapes(*networks, (size, size, 3), latent_size=latent_size, labels=jnp.zeros(3, jnp.int32))
    for (_, variables), peer in zip(both, peers, strict=True):
        assert count(variables["params"]) == sum(p.numel() for p in peer.parameters())
        assert jax.tree.leaves(variables["params"])
