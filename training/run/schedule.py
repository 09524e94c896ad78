"""The learning rate of each step. A pure function, so that a resumed run needs no state of a scheduler."""

import math

from training.config import OptimiserConfig


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Linear warm-up, a constant part where there is one, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    start = config.warmup_steps
    if config.decay_steps is not None:
        start = max(start, config.steps - config.decay_steps)
    progress = max(0, step - start) / max(1, config.steps - start)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
