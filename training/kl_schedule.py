"""How the weight of the KL divergence grows while a variational autoencoder trains.

At full weight from the start, the divergence can win before the decoder has learnt to use the code: the posterior
collapses onto the prior and every picture comes out as the grey mean.
"""

from training.config import LossConfig


def kl_weight_at(step: int | None, loss: LossConfig) -> float:
    """The weight of one nat of divergence against one nat of reconstruction.

    ``linear`` rises from 0 over ``kl_warmup_steps``. ``cyclic`` splits these into ``kl_cycles`` cycles, each of which
    rises during its first half and stays during its second (Fu et al., "Cyclical annealing schedule", NAACL 2019).
    Afterwards, and for ``constant`` always, the weight is ``kl_weight``.

    Args:
        step: counted from 0; None for the weight that the schedule ends with. Checkpoints are compared at that one,
            or the smallest weight, the earliest, would win.
        loss: of the run.
    """
    if step is None or loss.kl_schedule == "constant" or step >= loss.kl_warmup_steps:
        return loss.kl_weight
    progress = step / loss.kl_warmup_steps
    if loss.kl_schedule == "cyclic":
        progress = min(1.0, 2 * (progress * loss.kl_cycles % 1.0))
    return loss.kl_weight * progress
