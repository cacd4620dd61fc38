"""The settings that every experiment of one generator and one discriminator has: losses, optimizers and all
the tricks that stabilise them, each off by default.

    @dataclasses.dataclass(frozen=True)
    class Config(ImageRecipe):
        dataset: str = setting("mnist", "...")
        loss: str = loss_setting("hinge")

    def build(config, load=data.load):
        images = config.images(load)
        return config.experiment(images, MyGenerator(...), MyDiscriminator(...))

docs/tricks.md lists the tricks with their papers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import augment, augment_ada, data, losses, optim, regularizers
from ganjax.config import check_unused, setting
from ganjax.data.mirrored import mirrored
from ganjax.families import alternation, penalties
from ganjax.families.adaptive import Adaptive, adaptive
from ganjax.families.adversarial import DISCRIMINATOR, GENERATOR, Augment, adversarial, over_batch
from ganjax.families.growing import Rung
from ganjax.families.penalties import Penalty, Seen
from ganjax.gan import Array, Context, Experiment, Stage, Tree, always, every
from ganjax.regularizers import WeightPenalty

LOSSES = {
    "non_saturating": losses.NON_SATURATING,
    "minimax": losses.MINIMAX,
    "flipped": losses.FLIPPED,
    "least_squares": losses.LEAST_SQUARES,
    "hinge": losses.HINGE,
    "wasserstein": losses.WASSERSTEIN,
    "relativistic_average": losses.RELATIVISTIC_AVERAGE,
    "relativistic_average_least_squares": losses.RELATIVISTIC_AVERAGE_LEAST_SQUARES,
    "relativistic_pairing": losses.RELATIVISTIC_PAIRING,
}


def wrong(config: "Recipe", name: str, expected: str) -> ValueError:
    """The error for a setting that does not go with the others."""
    return ValueError(f"--config.{name}={getattr(config, name)}: expected {expected}")


def shifted(by_step: Callable[[Any], Any], first: int) -> Callable[[Any], Any]:
    """A function of the run's step as one of a stage's, which begins after `first` of them."""
    return (lambda step: by_step(step + first)) if first else by_step


def layers_of(discriminator: nn.Module, source: data.Source, labelled: bool) -> list[str]:
    """The names at the top of a discriminator's parameters, in the order in which an image meets them."""
    found: list[str] = []

    def note() -> None:
        key = jax.random.key(0)
        batch = source.transform(source.example(1), Context(key, jnp.zeros(1, jnp.int32)))
        labels = batch["label"] if labelled else None
        found.extend(discriminator.init(key, batch["image"], labels, train=True)["params"])

    jax.eval_shape(note)  # nothing is computed
    return found


def check_group(config: "Recipe", group: int, batch: int) -> None:
    """Raises ValueError unless a discriminator sees deviations over `group` images each of a (micro-)batch,
    which are then of one kind; 0: it sees none."""
    if group and batch > group and batch % group:
        raise wrong(config, "group", f"a number that divides the (micro-)batch of {batch}, or 0")
    if group and config.joined:
        raise wrong(config, "joined", "false, or group=0: the deviation would be of both kinds")


SMOOTHED = ("non_saturating", "minimax", "least_squares")

# Settings that need another one: which, and whether its value makes them count.
SWITCHES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "resize": ("image_size", lambda size: size is not None),
    "beta1": ("optimizer", lambda optimizer: optimizer == "adam"),
    "beta2": ("optimizer", lambda optimizer: optimizer == "adam"),
    "ema_start": ("ema_decay", lambda decay: decay != 0),
    "rmsprop_decay": ("optimizer", lambda optimizer: optimizer == "rmsprop"),
    "decay_start": ("schedule", lambda schedule: schedule != "constant"),
    "clip": ("clip_weights", bool),
    "warmup_discriminator_steps": ("warmup_generator_steps", bool),
    "instance_noise_end": ("instance_noise", bool),
    "gradient_penalty_one_sided": ("gradient_penalty", bool),
    "consistency_generated": ("consistency", bool),
    "consistency_flip": ("consistency", bool),
    "r1_every": ("r1", lambda r1: r1 != 0),
    "augment_p": ("augment", lambda augment: augment != "none"),
    "augment_groups": ("augment", lambda augment: augment != "none"),
    "augment_p_max": ("augment", lambda augment: augment == "ada"),
    "ada_target": ("augment", lambda augment: augment == "ada"),
    "ada_every": ("augment", lambda augment: augment == "ada"),
    "ada_kimg": ("augment", lambda augment: augment == "ada"),
}


def loss_setting(default: str) -> Any:
    """The setting `loss` with another default."""
    return setting(default, "what is minimised", choices=tuple(LOSSES))


def held_out_setting(default: float) -> Any:
    """The setting `held_out` with another default."""
    help = "share that is not trained on, but a split test, of a set without one; 0: none"
    return setting(default, help, minimum=0.0, below=1.0)


def schedule_setting(default: str) -> Any:
    """The setting `schedule` with another default."""
    help = "how both rates fall from decay_start on; exponential: to a hundredth"
    return setting(default, help, choices=("constant", "linear", "cosine", "exponential"))


def off(help: str, **limits: Any) -> Any:
    """A weight or a share that is 0 by default: the trick is off."""
    return setting(0.0, f"{help}; 0: off", minimum=0.0, **limits)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """See the module's docstring; `python run.py --experiment=NAME --help` lists the settings."""

    batch_size: int = setting(64, "of the global batch", minimum=2, maximum=2**20)
    steps: int = setting(5000, "batches to train on", minimum=1, maximum=2**31 - 1)
    seeds: int = setting(
        1, "runs that are trained in one, with seeds from --seed on", minimum=1, maximum=1000
    )
    evaluate_every: int = setting(
        0,
        "measure samples every so many steps, as --mode=evaluate does; 0: never",
        minimum=0,
        maximum=2**31 - 1,
    )
    dtype: Literal["float32", "bfloat16"] = setting("float32", "for compute")
    latent_size: int = setting(100, "entries of a latent", minimum=1, maximum=65_536)

    loss: str = loss_setting("non_saturating")
    adversarial_weight: float = setting(1.0, "of the adversarial term of the generator's loss", minimum=0.0)
    real_label: float = setting(
        1.0, "target of real images; below 1: one-sided smoothing", above=0.0, maximum=1.0
    )
    swap_labels: float = off("share of pairs whose labels the discriminator is told wrongly", maximum=1.0)
    joined: bool = setting(False, "real and generated images are one batch for the discriminator")
    share_latents: bool = setting(True, "both players' phases see the same generated images")
    top_k: float = setting(
        1.0,
        "share of the best generated images that the generator learns from in the end",
        above=0.0,
        maximum=1.0,
    )
    feature_matching: float = off("weight of the distance between mean features")

    optimizer: Literal["adam", "rmsprop"] = setting("adam", "of both players")
    generator_learning_rate: float = setting(2e-4, "of the generator", above=0.0)
    discriminator_learning_rate: float = setting(2e-4, "of the discriminator", above=0.0)
    beta1: float = setting(0.5, "of Adam", minimum=0.0, below=1.0)
    beta2: float = setting(0.999, "of Adam", minimum=0.0, below=1.0)
    rmsprop_decay: float = setting(0.99, "of RMSprop's mean square", minimum=0.0, below=1.0)
    schedule: str = schedule_setting("constant")
    decay_start: float = setting(
        0.5, "share of the steps after which the rates fall", minimum=0.0, maximum=1.0
    )
    warmup_steps: int = setting(0, "over which both rates rise from 0", minimum=0, maximum=2**31 - 1)
    clip_gradients: float = off("largest global norm of a player's gradient")
    clip_weights: float = off("bound of the discriminator's weights")
    clip: Literal["all", "kernels"] = setting("all", "which weights: all, or kernels of convolutions")
    ema_decay: float = setting(0.999, "of the averaged generator; 0: no average", minimum=0.0, below=1.0)
    ema_start: int = setting(
        0, "step until which the average follows the generator", minimum=0, maximum=2**31 - 1
    )
    accumulate: int = setting(1, "micro-batches to one update", minimum=1, maximum=2**20)
    freeze_d: int = setting(
        0, "so many of the discriminator's first layers do not move, for --init_from; 0: all move", minimum=0
    )

    discriminator_steps: int = setting(1, "steps of the discriminator to one of the generator", minimum=1)
    generator_steps: int = setting(1, "steps of the generator to one of the discriminator", minimum=1)
    warmup_generator_steps: int = setting(
        0, "generator steps, at first and every 500th, with a longer wait for the discriminator", minimum=0
    )
    warmup_discriminator_steps: int = setting(100, "how long that wait is", minimum=1)

    instance_noise: float = off("standard deviation at the start of noise on all that the discriminator sees")
    instance_noise_end: float = setting(
        1.0, "share of the steps at which it has fallen to 0", above=0.0, maximum=1.0
    )

    r1: float = off("gamma of the gradient penalty at real images")
    r1_every: int = setting(
        1, "steps to one of R1's own, which is as many times as strong; 1: it is in every step", minimum=1
    )
    r2: float = off("gamma of the gradient penalty at generated images")
    gradient_penalty: float = off("weight of the gradient penalty between real and generated images")
    gradient_penalty_one_sided: bool = setting(False, "only norms above 1 are penalised")
    drift: float = off("weight of the squared logits of real images")
    dragan: float = off("weight of the gradient penalty around real images")
    lecam: float = off("weight of LeCam's regularization")
    mismatched: float = off("weight of telling real images from real images with other labels")
    orthogonal: float = off("weight of orthogonal regularization of both players")
    spectral_penalty: float = off("weight of the kernels' squared spectral norms, of both players")
    historical_averaging: float = off("weight of the distance from past weights, of both players")

    def __post_init__(self) -> None:
        if min(self.discriminator_steps, self.generator_steps) > 1:
            raise wrong(self, "generator_steps", f"1 beside discriminator_steps={self.discriminator_steps}")
        if self.warmup_generator_steps and self.generator_steps > 1:
            raise wrong(self, "warmup_generator_steps", "0 where generator_steps is above 1")
        if self.top_k < 1 and self.loss == "flipped":
            raise wrong(self, "top_k", "1 with loss=flipped, where the best images have the lowest logits")
        if self.top_k < 1 and self.loss.startswith("relativistic_average"):
            raise wrong(self, "top_k", f"1 with loss={self.loss}, where all images count by their mean")
        first = self.warmup_discriminator_steps if self.warmup_generator_steps else self.discriminator_steps
        if max(first, self.generator_steps) > self.steps:
            player, at = (
                ("generator", first) if first > self.steps else ("discriminator", self.generator_steps)
            )
            raise wrong(self, "steps", f"at least {at}, the step at which the {player} first moves")
        if self.batch_size % self.accumulate:
            raise wrong(self, "accumulate", f"a number that divides batch_size={self.batch_size}")
        self._check_switches()
        self.adversarial_loss()

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.dtype)

    def adversarial_loss(self) -> losses.AdversarialLoss:
        """Raises ValueError where `real_label` does not go with `loss`."""
        loss = LOSSES[self.loss]
        if self.real_label == 1.0:
            return loss
        if self.loss not in SMOOTHED:
            raise wrong(self, "real_label", f"1 with loss={self.loss}; {', '.join(SMOOTHED)} have labels")
        return losses.smoothed(loss, self.real_label)

    def switches(self) -> Mapping[str, tuple[str, Callable[[Any], bool]]]:
        """`SWITCHES`, and those of a recipe's own settings."""
        return SWITCHES

    def _check_switches(self) -> None:
        """Raises ValueError for a setting that another one, which is off, leaves without effect."""
        for name, (switch, is_on) in self.switches().items():
            if hasattr(self, name) and not is_on(getattr(self, switch)):
                check_unused(self, name, f"{switch}={getattr(self, switch)}")

    def learning_rate(self, value: float) -> float | optim.Schedule:
        """By the run's step."""
        start = round(self.decay_start * self.steps)
        fall = self.steps - start
        rate: float | optim.Schedule = value
        if self.schedule == "linear" and fall:
            rate = optim.linear_decay(value, start, self.steps)
        elif self.schedule == "cosine" and fall:
            rate = optim.cosine_decay(value, fall, start=start)
        elif self.schedule == "exponential" and fall:
            rate = optim.exponential_decay(value, 0.01, fall, start=start)
        return optim.warmup(rate, self.warmup_steps) if self.warmup_steps else rate

    def lazy_intervals(self) -> dict[str, int]:
        """Of the players that are regularized lazily: on every how many-th step."""
        return {DISCRIMINATOR: self.r1_every} if self.r1 and self.r1_every > 1 else {}

    def optimizers(self, first: int = 0) -> dict[str, optax.GradientTransformation]:
        """By player, of a stage that begins after `first` steps of the run."""
        rates = {GENERATOR: self.generator_learning_rate, DISCRIMINATOR: self.discriminator_learning_rate}
        lazy = self.lazy_intervals()

        clip = self.clip_gradients or None

        def make(player: str, rate: float) -> optax.GradientTransformation:
            beta1, beta2 = self.beta1, self.beta2
            if player in lazy:
                rate, beta1, beta2 = optim.lazily(rate, beta1, beta2, lazy[player])
            schedule = self.learning_rate(rate)
            schedule = shifted(schedule, first) if callable(schedule) else schedule
            if self.optimizer == "rmsprop":
                return optim.rmsprop(schedule, self.rmsprop_decay, clip=clip)
            return optim.adam(schedule, beta1, beta2, clip=clip)

        return {player: make(player, rate) for player, rate in rates.items()}

    def average(self, batch_size: int) -> optim.Schedule | None:
        """The decay of the averaged generator by step; None: there is none."""
        del batch_size
        if not self.ema_decay:
            return None
        return optim.ema_decay(self.ema_decay, start=self.ema_start, every=self.discriminator_steps)

    def adaptive(self, batch_size: int) -> Adaptive | None:
        """An augmentation that follows the discriminator; None: there is none."""
        del batch_size
        return None

    def watched(self) -> dict[str, Callable[[Seen], Array]]:
        """Metrics of what the discriminator saw, by name."""
        return {}

    def augmentation(self) -> Augment | None:
        """What every image goes through before the discriminator sees it; None: nothing."""
        if not self.instance_noise:
            return None
        sigma = augment.anneal(self.instance_noise, max(round(self.instance_noise_end * self.steps), 1))
        return lambda images, keys, step: augment.instance_noise(images, keys, sigma(step))

    def penalties(self) -> dict[str, Penalty]:
        """Of the discriminator's loss, by name."""
        between = functools.partial(penalties.gradient_penalty, one_sided=self.gradient_penalty_one_sided)
        possible = {
            "r1": penalties.r1,
            "r2": penalties.r2,
            "gradient_penalty": between,
            "drift": penalties.drift,
            "dragan": penalties.dragan,
            "lecam": penalties.lecam,
        }
        return {name: make(getattr(self, name)) for name, make in possible.items() if getattr(self, name)}

    def of_labels(self, num_classes: int) -> Penalty:
        """That of mismatched labels. Raises ValueError where there are no classes."""
        if num_classes < 2:
            raise wrong(self, "mismatched", "0, as this GAN does not tell two classes apart")
        loss = self.adversarial_loss()

        def compare(real: Array, other: Array, context: Context) -> Array:
            return jnp.mean(loss.discriminator(real, other, **over_batch(loss, context)))

        return penalties.mismatched(self.mismatched, compare, num_classes)

    def weight_penalties(self) -> dict[str, dict[str, tuple[float, WeightPenalty]]]:
        """By player and name."""
        possible = {
            "orthogonal": regularizers.orthogonal_penalty,
            "spectral_penalty": regularizers.spectral_penalty,
            "historical_averaging": regularizers.historical_averaging,
        }
        chosen = {
            name: (getattr(self, name), make()) for name, make in possible.items() if getattr(self, name)
        }
        return {GENERATOR: chosen, DISCRIMINATOR: chosen} if chosen else {}

    def due(self) -> tuple[Callable[[int], bool], Callable[[int], bool]]:
        """On which steps the generator moves, and the discriminator."""
        if self.warmup_generator_steps:
            generator = alternation.generator_due(
                self.discriminator_steps,
                warmup_generator_steps=self.warmup_generator_steps,
                warmup_critic_steps=self.warmup_discriminator_steps,
            )
        else:
            generator = every(self.discriminator_steps) if self.discriminator_steps > 1 else always
        discriminator = every(self.generator_steps) if self.generator_steps > 1 else always
        return generator, discriminator

    def constrain(self) -> Mapping[str, Callable[[Tree], Tree]]:
        """The projection of the discriminator's weights."""
        if not self.clip_weights:
            return {}
        box = optim.clip_all if self.clip == "all" else optim.clip_kernels
        return {DISCRIMINATOR: box(self.clip_weights)}

    def experiment(
        self,
        source: data.Source,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        num_classes: int = 0,
        sample_dropout: bool = True,
        classification: float = 0.0,
        standing_statistics: int = 0,
        by_step: Mapping[str, Callable[[Array], Array]] | None = None,
        of_real: Callable[[Array, Array], Array] | None = None,
        rung: Rung | None = None,
        **further: Any,
    ) -> Experiment:
        """An experiment of one stage.

        Args:
          source: where batches come from.
          generator: a network as `adversarial` takes it.
          discriminator: likewise.
          num_classes: 0 for an unconditional GAN.
          sample_dropout, classification, standing_statistics, by_step, of_real: as in `adversarial`.
          rung: which part of the run the stage is, where it is not the whole. Schedules go on over the run.
          **further: fields of `Experiment`.
        """
        rung = rung or Rung(0, self.batch_size, self.steps)
        generator_due, discriminator_due = (shifted(due, rung.first) for due in self.due())
        augmentation = self.augmentation()
        augmented = None
        if augmentation is not None:
            augmented = lambda images, keys, step: augmentation(images, keys, step + rung.first)  # noqa: E731
        decay = self.average(rung.batch_size)
        penalties = self.penalties()
        if self.mismatched:
            penalties["mismatched"] = self.of_labels(num_classes)
        lazy = {"r1": (self.r1_every, penalties.pop("r1"))} if "r1" in penalties and self.r1_every > 1 else {}
        optimizers = self.optimizers(rung.first)
        still: list[str] = []
        if self.freeze_d:
            layers = layers_of(discriminator, source, bool(num_classes))
            if self.freeze_d >= len(layers):
                raise wrong(self, "freeze_d", f"less than {len(layers)}, the discriminator's layers")
            still = layers[: self.freeze_d]
            optimizers[DISCRIMINATOR] = optim.frozen(optimizers[DISCRIMINATOR], still)
        share = losses.top_k_share(0, self.top_k, max(self.steps // 2, 1))
        gan = adversarial(
            generator,
            discriminator,
            latent_size=self.latent_size,
            num_classes=num_classes,
            loss=self.adversarial_loss(),
            optimizers=optimizers,
            ema_decay=None if decay is None else shifted(decay, rung.first),
            share_latents=self.share_latents,
            constrain=self.constrain(),
            augment=augmented,
            by_step=by_step,
            of_real=of_real,
            joined=self.joined,
            swap_labels=self.swap_labels,
            penalties=penalties,
            lazy_penalties=lazy,
            lazy_stride=self.generator_steps,
            watched=self.watched(),
            adaptive=self.adaptive(rung.batch_size),
            weight_penalties=self.weight_penalties(),
            adversarial_weight=self.adversarial_weight,
            feature_matching=self.feature_matching,
            top_k=None if self.top_k == 1.0 else shifted(share, rung.first),
            sample_dropout=sample_dropout,
            classification=classification,
            accumulate=self.accumulate,
            standing_statistics=standing_statistics,
            standing_batch=rung.batch_size // self.accumulate,  # as in training
            generator_due=generator_due,
            discriminator_due=discriminator_due,
        )
        stage = Stage(gan, source, steps=rung.steps, batch_size=rung.batch_size)
        return Experiment(
            (stage,),
            num_classes=num_classes,
            seeds=self.seeds,
            evaluate_every=self.evaluate_every,
            frozen=tuple(f"{DISCRIMINATOR}/{layer}" for layer in still),
            **further,
        )


@dataclasses.dataclass(frozen=True)
class ImageRecipe(Recipe):
    """The settings of experiments on images: which, and what may be done to them."""

    dataset: str = setting("mnist", "a TFDS name, or a path to a folder or an .npz")
    image_size: int | tuple[int, int] | None = setting(
        None, "height and width, or one for both; none: as the images are", minimum=1, maximum=4096
    )
    resize: Literal["crop", "pad", "stretch"] = setting(
        "crop", "how images come to image_size: cropped, with black around them, or out of proportion"
    )
    channels: int | None = setting(None, "of the images; none: the set's own", choices=(1, 3, 4))
    held_out: float = held_out_setting(0.0)
    held_out_by: str = setting("", "names that are alike up to this text are held out together")

    mirror: bool = setting(False, "half of the real images are mirrored, left to right")
    augment: Literal["none", "ada", "fixed"] = setting(
        "none", "ADA's transforms of all that the discriminator sees; fixed: with one probability"
    )
    augment_p: float = setting(0.0, "probability of each of them; of ADA, at first", minimum=0.0, maximum=1.0)
    augment_p_max: float = setting(0.8, "which ADA does not exceed", minimum=0.0, maximum=1.0)
    augment_groups: str = setting(
        augment_ada.DEFAULT, f"groups of transforms, of {', '.join(augment_ada.GROUPS)}"
    )
    ada_target: float = setting(
        0.6, "mean sign of real images' logits that ADA aims at", minimum=-1.0, maximum=1.0
    )
    ada_every: int = setting(4, "batches of the discriminator after which ADA changes p", minimum=1)
    ada_kimg: float = setting(500.0, "thousands of images in which p can rise from 0 to 1", above=0.0)
    diff_augment: str = setting("", "DiffAugment's policy, such as color,translation,cutout; empty: off")
    consistency: float = off("weight of the change of real images' logits under small shifts")
    consistency_generated: bool = setting(False, "generated images too")
    consistency_flip: bool = setting(False, "horizontal flips besides the shifts")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, check in (("diff_augment", augment.diff_augment), ("augment_groups", augment_ada.ada)):
            try:
                check(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"--config.{name}: {error}") from error
        if self.augment == "ada" and self.augment_p > self.augment_p_max:
            raise wrong(self, "augment_p", f"at most augment_p_max={self.augment_p_max}")
        if self.augment == "fixed" and not self.augment_p:
            raise wrong(
                self, "augment_p", "more than 0 with augment=fixed, whose transforms would do nothing"
            )
        if self.augment == "ada" and self.adversarial_loss().boundary is None:
            raise wrong(
                self, "augment", f"none or fixed with loss={self.loss}, whose logits' signs mean nothing"
            )

    def images(self, load: Callable = data.load, *, conditional: bool = False) -> data.Dataset:
        """The training split.

        Args:
          load: `ganjax.data.load` or the like.
          conditional: labels are needed.
        Raises:
          ValueError: where they are and the set has none.
        """
        options = {"image_size": self.image_size, "channels": self.channels, "resize": self.resize}
        if self.held_out:
            options |= {"held_out": self.held_out, "held_out_by": self.held_out_by}
        found = load(self.dataset, split="train", **options)
        if conditional and not found.num_classes:
            raise ValueError(f"dataset={self.dataset!r} has no labels, and this GAN is conditional on them")
        return mirrored(found) if self.mirror else found

    def adaptive(self, batch_size: int) -> Adaptive | None:
        """ADA."""
        if self.augment != "ada":
            return None
        return adaptive(
            augment_ada.ada(self.augment_groups),
            every_images=self.ada_every * batch_size,
            speed_images=1000 * self.ada_kimg,
            target=self.ada_target,
            start=self.augment_p,
            maximum=self.augment_p_max,
        )

    def augmentation(self) -> Augment | None:
        """ADA's transforms with a fixed probability, then DiffAugment, then instance noise."""
        parts: list[Augment] = []
        if self.augment == "fixed":
            transforms = augment_ada.ada(self.augment_groups)
            parts.append(lambda images, keys, step: transforms(images, keys, self.augment_p))
        if self.diff_augment:
            policy = augment.diff_augment(self.diff_augment)
            parts.append(lambda images, keys, step: policy(images, keys))
        noise = super().augmentation()
        if noise is not None:
            parts.append(noise)

        def all_of_them(images: Array, keys: Array, step: Array) -> Array:
            for part in parts:
                images = part(images, keys, step)
            return images

        return all_of_them if parts else None

    def penalties(self) -> dict[str, Penalty]:
        """Consistency besides."""
        if not self.consistency:
            return super().penalties()

        def small(images: Array, keys: Array) -> Array:
            shift = min(4, min(images.shape[1:3]) // 4)
            return augment.flip_and_shift(shift, flip=self.consistency_flip)(images, keys)

        term = penalties.consistency(self.consistency, small, generated=self.consistency_generated)
        return super().penalties() | {"consistency": term}
