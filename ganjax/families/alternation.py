"""When a player moves: host functions of the step for `Phase.due`, beyond `ganjax.gan.every`."""

from collections.abc import Callable

from ganjax import gan


def generator_due(
    n_critic: int = 5,
    *,
    warmup_generator_steps: int = 25,
    warmup_critic_steps: int = 100,
    every: int = 500,
) -> Callable[[int], bool]:
    """Due where a WGAN's generator moves, when each step of the stage is one batch for the critic.

    The generator moves at the last of its critic batches: `warmup_critic_steps` of them for each of its first
    `warmup_generator_steps` moves and for the moves 0, `every`, 2 `every`, ... (the first move is 0), so that
    the critic catches up; `n_critic` for all others. Without a warm-up (`warmup_generator_steps=0, every=0`)
    this is `gan.every(n_critic)`.

    Nothing is remembered: a question takes the logarithm of the step in time.

    Args:
      n_critic: at least 1.
      warmup_generator_steps: 0 or more.
      warmup_critic_steps: at least 1.
      every: 0 for never.
    Raises:
      ValueError: for numbers below these.
    References:
      Arjovsky et al. 2017, "Wasserstein GAN": the code that the authors published; the paper's algorithm 1
      has `n_critic` alone.
    """
    if n_critic < 1 or warmup_critic_steps < 1 or warmup_generator_steps < 0 or every < 0:
        raise ValueError(
            f"generator_due({n_critic}, warmup_generator_steps={warmup_generator_steps},"
            f" warmup_critic_steps={warmup_critic_steps}, every={every}): n_critic and warmup_critic_steps"
            " must be at least 1, the others at least 0"
        )
    if warmup_generator_steps == 0 and every == 0:
        return gan.every(n_critic)

    def batches(moves: int) -> int:
        """Critic batches up to the generator's first `moves` moves."""
        long = min(moves, warmup_generator_steps)
        if every and moves > warmup_generator_steps:
            # Multiples of `every` from warmup_generator_steps to moves - 1.
            long += (moves - 1) // every - (warmup_generator_steps - 1) // every
        return warmup_critic_steps * long + n_critic * (moves - long)

    def due(step: int) -> bool:
        # Each move takes at least one batch: among the first `step + 1` batches there are no more moves.
        low, high = 0, step + 1
        while low < high:
            middle = (low + high) // 2
            if batches(middle) <= step:
                low = middle + 1
            else:
                high = middle
        return batches(low) == step + 1

    return due
