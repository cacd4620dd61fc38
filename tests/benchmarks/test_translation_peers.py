"""The peers of the translations compute what ours do: copied weights, one batch, one whole step of both."""

import importlib.util

import jax
import numpy as np
import optax
import pytest

from benchmarks import models
from ganjax.step import create_state, train_step
from tests.nets.networks import FAST, KEY

if importlib.util.find_spec("torch") is None:
    pytest.skip("the peers need PyTorch: pip install -e '.[bench]'", allow_module_level=True)

import torch

from benchmarks.peers import translation as peers
from benchmarks.peers.copying import convert, copy_weights, count
from ganjax.families.cycle import cycle
from ganjax.families.translation import translation
from ganjax.nets.translation import PatchDiscriminator, ResidualGenerator
from ganjax.nets.unet import UNet
from tests.benchmarks.test_peers import StandsStill, close, recorder

pytestmark = pytest.mark.slow  # minutes of compiling


def random_state(gan, batch):
    """Parameters that do not begin at 0, which would hide a wrong place."""
    draw = np.random.default_rng(5)

    def fill(path, x):
        name = path[-1].key if hasattr(path[-1], "key") else ""
        if name in ("var", "scale"):
            return draw.uniform(0.5, 1.5, x.shape).astype(x.dtype)
        scale = np.sqrt(1 / np.prod(x.shape[:-1])) if name == "kernel" else 0.1
        return (scale * draw.normal(size=x.shape)).astype(x.dtype)

    shapes = jax.eval_shape(lambda: create_state(gan, KEY, batch))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return state.replace(
        params=jax.tree_util.tree_map_with_path(fill, state.params),
        stats=jax.tree_util.tree_map_with_path(fill, state.stats),
    )


def compare_gradients(module, names, gradients, floor):
    """Of every parameter of a network."""
    seen = 0
    for name, path in names.items():
        part, ours = module.get_submodule(name), gradients
        for key in path.split("/"):
            ours = ours.get(key, {})
        for key, value in ours.items():
            target = getattr(part, {"kernel": "weight", "bias": "bias", "scale": "weight"}[key])
            close(convert(part, key, np.asarray(value)), target.grad, 2e-3, floor)
            seen += 1
    assert seen == len(list(module.parameters()))


def step_of(gan, state, batch):
    def whole(state):
        given = {"A": batch["A"]}
        return train_step(gan, state, batch, KEY), gan.sample(state, None, given)

    return jax.jit(whole, compiler_options=FAST)(state)


def images(batch, size, n=2):
    draw = np.random.default_rng(0)
    return {side: draw.uniform(-1, 1, (n, size, size, 3)).astype(np.float32) for side in batch}


def largest(tree):
    return max(np.abs(x).max() for x in jax.tree.leaves(tree))


def test_pix2pix():
    batch, stages = images("AB", 32, 3), 5
    gan = translation(
        UNet(3, stages, width=8, dropout=0.0),
        PatchDiscriminator(70, width=8),
        optimizers={player: recorder() for player in ("generator", "discriminator")},
    )
    networks = peers.Pair(
        peers.UNet(stages=stages, width=8, dropout=0.0), peers.PatchDiscriminator(6, width=8)
    )
    names = peers.unet_names(stages), peers.patch_names()
    state = random_state(gan, batch)
    trainer = peers.PairTrainer(networks)
    trainer.optimizers = [StandsStill(), StandsStill()]  # pyright: ignore[reportAttributeAccessIssue]
    for player, module, known in zip(("generator", "discriminator"), networks, names, strict=True):
        copy_weights(module, known, state.params[player], state.stats[player])
        assert count(state.params[player]) == sum(p.numel() for p in module.parameters())
    (after, metrics), samples = step_of(gan, state, batch)
    a, b = trainer.put(batch["A"], batch["B"])
    with torch.no_grad():
        fake = networks.generator.eval()(a).permute(0, 2, 3, 1)
    networks.generator.train()
    np.testing.assert_allclose(samples["AtoB"], fake, rtol=0, atol=1e-4)
    theirs = [float(x) for x in trainer.step(a, b)]
    ours = [metrics["discriminator_loss"], metrics["generator_loss"] + 100 * metrics["l1"]]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    for player, module, known in zip(("generator", "discriminator"), networks, names, strict=True):
        gradients = after.opt_state[player]
        compare_gradients(module, known, gradients, 1e-2 * largest(gradients))


def test_cyclegan():
    batch, blocks = images("AB", 24), 2
    discriminator = PatchDiscriminator(34, width=8, norm="instance")
    gan = cycle(
        {name: ResidualGenerator(3, blocks, width=8) for name in ("AtoB", "BtoA")},
        {"A": discriminator, "B": discriminator},
        optimizers={player: recorder() for player in ("generators", "discriminators")},
    )
    networks = peers.Cycle(
        {name: peers.ResidualGenerator(blocks=blocks, width=8) for name in ("AtoB", "BtoA")},
        {name: peers.PatchDiscriminator(3, stages=2, width=8, batch_norm=False) for name in "AB"},
    )
    names = peers.residual_names(blocks), peers.patch_names(2, batch_norm=False)
    state = random_state(gan, batch)
    trainer = peers.CycleTrainer(networks)
    trainer.optimizers = [StandsStill(), StandsStill()]  # pyright: ignore[reportAttributeAccessIssue]
    players = (
        ("generators", networks.generators, names[0]),
        ("discriminators", networks.discriminators, names[1]),
    )
    for player, modules, known in players:
        for name, module in modules.items():
            copy_weights(module, known, state.params[player][name], state.stats[player][name])
    (after, metrics), samples = step_of(gan, state, batch)
    a, b = trainer.put(batch["A"], batch["B"])
    with torch.no_grad():
        fake = networks.generators["AtoB"](a)
        again = networks.generators["BtoA"](fake)
    np.testing.assert_allclose(samples["AtoB"], fake.permute(0, 2, 3, 1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(samples["AtoBtoA"], again.permute(0, 2, 3, 1), rtol=0, atol=1e-4)
    theirs = [float(x) for x in trainer.step(a, b)]
    of_generators = 2 * metrics["generator_loss"] + 20 * metrics["cycle_l1"] + 10 * metrics["identity_l1"]
    np.testing.assert_allclose([metrics["discriminator_loss"], of_generators], theirs, rtol=1e-4)
    for player, modules, known in players:
        gradients = after.opt_state[player]
        for name, module in modules.items():
            compare_gradients(module, known, gradients[name], 1e-2 * largest(gradients))


@pytest.mark.parametrize("name", ["pix2pix64", "cyclegan128"])
def test_the_models_that_are_timed_have_as_many_parameters(name):
    """And the same optimizers: rate 2e-4 and betas of 0.5 and 0.999."""
    from benchmarks.peers import PEERS

    model, networks = models.MODELS[name]("float32"), PEERS[name]()
    batch = model.batch(1)
    assert set(batch) == {"A", "B"}
    state = jax.eval_shape(lambda: create_state(model.gan, KEY, batch))
    parts = [part for part in networks if not isinstance(part, int)]
    for params, part in zip(
        (state.params[key] for key in sorted(state.params, reverse=True)), parts, strict=True
    ):
        modules = part.values() if isinstance(part, dict) else [part]
        expected = sum(p.numel() for module in modules for p in module.parameters())
        assert sum(x.size for x in jax.tree.leaves(params)) == expected
    start = np.array([1.0, -2.0], np.float32)
    for optimizer in model.gan.optimizers.values():
        update = optax.with_extra_args_support(optimizer).update
        updates, _ = update(start, optimizer.init(start), start, step=0)
        np.testing.assert_allclose(np.asarray(updates), -2e-4 * np.sign(start), rtol=1e-4)
