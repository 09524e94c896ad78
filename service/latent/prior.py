"""Where the codes of a model lie, and which code is too far away to mean anything. Pure NumPy."""

import math
from typing import Final

import numpy as np

from denoised.contract import GENERATIVE_KINDS, ModelContract
from denoised.statistics import Code, CodeDensity
from service.errors import InvalidLatent, LatentOutOfDistribution
from service.types import Codes

# The length of a standard normal vector of d numbers exceeds sqrt(d) + t with probability at most exp(-t^2 / 2),
# because it is a 1-Lipschitz function of the vector (Gaussian concentration): 1.5e-8 for 6, whatever d.
_BEYOND: Final = 6.0


class Prior:
    """The distribution of a model's codes: the standard normal of a variational model, else that which was measured.

    Attributes:
        code_length: numbers in a code.
        is_normal: whether it is the standard normal, which codes can be drawn from.
        distance_limit: largest Mahalanobis distance from its middle that is decoded unasked; None where nothing is
            known of the codes.
    """

    def __init__(self, contract: ModelContract) -> None:
        self.code_length = contract.code_length
        self.is_normal = contract.kind in GENERATIVE_KINDS
        self._energy_model = contract.calibration.energy_model()
        self._density = self._energy_model.code_density
        if self.is_normal:
            self._density = CodeDensity(np.zeros(self.code_length, np.float32), np.ones(self.code_length, np.float32))
        self.distance_limit = None if self._density is None else math.sqrt(self.code_length) + _BEYOND

    def distance(self, code: Codes) -> float | None:
        """Mahalanobis distance of (d,) from the middle; None where nothing is known of the codes."""
        return None if self._density is None else math.sqrt(self._density.squared_distance(code))

    def compression_nats(self, mean: Codes, log_variance: Codes | None) -> float | None:
        """What an image's code costs; None where that is undefined."""
        return self._energy_model.compression_nats(Code(mean, log_variance))

    def check_length(self, count: int, *, field: str) -> None:
        """Raises InvalidLatent unless a code of this model has so many numbers."""
        if count != self.code_length:
            raise InvalidLatent(
                f"the code has {count} numbers and the model's have {self.code_length}; send one code of this model",
                field=field,
            )

    def check(self, code: Codes, *, field: str, allow_out_of_distribution: bool) -> None:
        """Raises unless a code can be decoded.

        Args:
            code: (d,) of the right length.
            field: of the request that it came in.
            allow_out_of_distribution: whether it may lie anywhere.

        Raises:
            InvalidLatent: it has numbers that are not finite.
            LatentOutOfDistribution: it lies too far from the prior.
        """
        finite = np.isfinite(code)
        if not finite.all():
            raise InvalidLatent(
                f"{code.size - int(np.count_nonzero(finite))} of {code.size} numbers of the code are NaN or infinite, "
                f"the first is number {int(np.argmin(finite))}; send finite ones",
                field=field,
            )
        if allow_out_of_distribution or self.distance_limit is None:
            return
        distance = self.distance(code)
        assert distance is not None
        if distance > self.distance_limit:
            raise LatentOutOfDistribution(
                f"the code is {distance:.4g} standard deviations from the model's prior, and those of images are "
                f"within {self.distance_limit:.4g}; scale it down, or set allow_out_of_distribution",
                field=field,
                metadata={"value": f"{distance:.6g}", "limit": f"{self.distance_limit:.6g}"},
            )
