"""A peer is fair: it computes what our model computes. Copied weights, one batch, one whole step of both."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.command_line import MODELS as NAMES
from benchmarks.command_line import PEERLESS
from benchmarks.models import MODELS
from ganjax import random
from ganjax.step import create_state, step_context, train_step

if importlib.util.find_spec("torch") is None:
    pytest.skip("the peers need PyTorch: pip install -e '.[bench]'", allow_module_level=True)

import torch

from benchmarks.peers import PEERS, Trainer
from benchmarks.peers.copying import convert, copy_weights, count

KEY = jax.random.key(0)
FAST = {"xla_backend_optimization_level": 0}  # to compile; the batch is tiny
PLAYERS = ("generator", "discriminator")
TRANSLATIONS = ("pix2pix64", "cyclegan128")
WIDE = ("pggan128", "pggan256")  # pggan32's networks, wider: see test_progressive_peers.py
ADVERSARIAL = tuple(name for name in NAMES if name not in (*TRANSLATIONS, *WIDE, *PEERLESS))


def recorder() -> optax.GradientTransformation:
    """Moves nothing and keeps the gradient as its state."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )


class StandsStill:
    """In the place of a peer's optimizer: the gradients stay to be looked at."""

    def __init__(self):
        self.param_groups = [{}]

    def zero_grad(self, set_to_none: bool = True):
        pass

    def step(self):
        pass


def close(ours, theirs, tolerance=1e-4, floor=1e-6):
    """Equal to `tolerance` of the largest entry, which is taken to be `floor` at least."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(floor, np.abs(ours).max()))


def test_the_command_names_the_models():
    assert tuple(MODELS) == NAMES
    assert tuple(PEERS) == tuple(name for name in NAMES if name not in PEERLESS)


SLOW = {"sngan_resnet32", "biggan32", "pggan32", "stylegan2_32"}  # to compile
PARAMS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in ADVERSARIAL
    if name != "stylegan32"  # whose generator draws for itself: see test_progressive_peers.py
]


@pytest.fixture(scope="module", params=PARAMS)
def step(request):
    """(recipe, trainer after one step from copied weights, our state after it, both losses of both)."""
    torch.manual_seed(0)
    model = MODELS[request.param]("float32")
    recipe = PEERS[request.param]()
    gan = model.gan._replace(optimizers={player: recorder() for player in PLAYERS})
    batch = model.batch(3)
    # Parameters that begin at 0 (gamma, shift, biases) would hide a wrong place; random ones don't.
    # These are such that no activation is within rounding of a ReLU's kink: there a gradient is either's.
    draw = np.random.default_rng(5)
    shapes = jax.eval_shape(lambda: create_state(gan, KEY, batch))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

    def fill(path, x):
        name = path[-1].key
        if name in ("var", "scale"):
            return draw.uniform(0.5, 1.5, x.shape).astype(x.dtype)
        if name == "strength":  # of noise, which the two draw for themselves
            return np.zeros(x.shape, x.dtype)
        if name in ("u", "v"):
            vector = draw.normal(size=x.shape)
            return (vector / np.linalg.norm(vector)).astype(x.dtype)
        scale = np.sqrt(1 / np.prod(x.shape[:-1])) if name == "kernel" else 0.1
        return (scale * draw.normal(size=x.shape)).astype(x.dtype)

    state = state.replace(
        params=jax.tree_util.tree_map_with_path(fill, state.params),
        stats=jax.tree_util.tree_map_with_path(fill, state.stats),
    )

    trainer = Trainer(recipe)
    trainer.optimizers = [StandsStill(), StandsStill()]  # pyright: ignore[reportAttributeAccessIssue]
    for player, module, names in zip(
        PLAYERS, (trainer.generator, trainer.discriminator), recipe.names, strict=True
    ):
        copy_weights(module, names, state.params[player], state.stats[player])

    context = step_context(state, batch, KEY)
    context = context._replace(key=random.stream(context.key, "latents"))
    latents = random.normal(context.example_keys("z"), (recipe.latent_size,))
    fake_labels = None
    if model.num_classes:
        fake_labels = random.randint(context.example_keys("label"), 0, model.num_classes)

    def whole(state):
        fake = gan.sample(state, None, fake_labels, latents=latents)
        return train_step(gan, state, batch, KEY), fake

    (after, metrics), fake = jax.jit(whole, compiler_options=FAST)(state)
    images, labels = trainer.put(batch["image"], batch.get("label"))
    their_latents = torch.from_numpy(np.array(latents))
    their_labels = None if fake_labels is None else torch.from_numpy(np.array(fake_labels)).long()
    with torch.no_grad():
        their_fake = trainer.generator.eval()(their_latents, their_labels).permute(0, 2, 3, 1)
    trainer.generator.train()
    if recipe.ema_decay is not None:  # ours samples from the average, here still zeros
        fake = their_fake.numpy()
    losses = trainer.step(images, labels, their_latents, their_labels)
    ours = [metrics["discriminator_loss"], metrics["generator_loss"]]
    return recipe, trainer, after, (ours, [float(x) for x in losses]), (fake, their_fake)


def networks(step):
    recipe, trainer, after, *_ = step
    modules = trainer.generator, trainer.discriminator
    return zip(PLAYERS, modules, recipe.names, [after] * 2, strict=True)


def test_parameters_are_as_many(step):
    for player, module, _, after in networks(step):
        assert count(after.params[player]) == sum(p.numel() for p in module.parameters())


def test_losses_of_a_step_agree(step):
    ours, theirs = step[3]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sampled_images_agree(step):
    np.testing.assert_allclose(*step[4], rtol=0, atol=1e-4)


def test_gradients_of_a_step_agree(step):
    """Of every parameter of both players; they stand for every output of every layer in training."""
    for player, module, names, after in networks(step):
        seen = 0
        named = {"kernel": "weight", "bias": "bias", "scale": "weight", "embedding": "weight"}
        named |= {name: name for name in ("share", "constant")}
        # A bias that batch normalisation takes out again has a gradient of rounding errors.
        floor = 1e-2 * max(np.abs(x).max() for x in jax.tree.leaves(after.opt_state[player]))
        for name, path in names.items():
            part = module.get_submodule(name)
            gradients = after.opt_state[player]
            for key in path.split("/"):
                gradients = gradients[key]
            for key, ours in gradients.items():
                if f"{name}.{key}" in names:  # of a layer with a name of its own
                    continue
                if key == "strength":
                    seen += 1
                    continue
                if isinstance(ours, dict):  # gamma and shift
                    target, ours = part.get_submodule(key).weight, ours["embedding"]
                else:
                    target = getattr(part, named[key])
                close(convert(part, key, np.asarray(ours)), target.grad, 1e-3, floor)
                seen += 1
        assert seen == len(list(module.parameters()))


def test_statistics_after_a_step_agree(step):
    """The generator's running statistics and nothing else of it; see below for spectral vectors."""
    _, trainer, after, *_ = step
    recipe = step[0]
    stats = after.stats["generator"].get("batch_stats", {})
    for name, path in recipe.names[0].items():
        if path in stats:
            part = trainer.generator.get_submodule(name)
            part = getattr(part, "norm", part)
            ours = stats[path].get("BatchNorm_0", stats[path])
            close(ours["mean"], part.running_mean)
            close(ours["var"], part.running_var)


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("player", PLAYERS)
def test_optimizers_and_averages_are_the_same(name, player):
    gan, recipe = MODELS[name]("float32").gan, PEERS[name]()
    start = np.array([1.0, -2.0, 3.0], np.float32)
    gradients = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    params, state = jnp.asarray(start), gan.optimizers[player].init(jnp.asarray(start))
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([theirs], betas=recipe.betas)
    for step, gradient in zip((0, 1, 2500, 3000), gradients, strict=True):
        update = optax.with_extra_args_support(gan.optimizers[player]).update
        updates, state = update(jnp.asarray(gradient), state, params, step=step)
        params = optax.apply_updates(params, updates)
        theirs.grad = torch.from_numpy(gradient)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate(step)
        optimizer.step()
    np.testing.assert_allclose(np.asarray(params), theirs.detach(), rtol=1e-6)
    assert ("generator" in gan.ema) == (recipe.ema_decay is not None)
    if recipe.ema_decay is not None:
        for step in (0, 5, 20_000):
            np.testing.assert_allclose(gan.ema["generator"](jnp.asarray(step)), recipe.ema_decay(step), 1e-6)
