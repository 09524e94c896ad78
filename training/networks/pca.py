"""Principal component analysis as a network: the best linear autoencoder at its code length, solved in closed form.

It is the yardstick of the non-linear ones: whatever they gain over it is what their layers are worth.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import PcaConfig
from training.errors import DataError
from training.networks.base import Answer, Code, LatentNetwork


class PrincipalComponents(LatentNetwork):
    """Code = components x (image - mean); image = components^T x code + mean.

    Attributes:
        mean: (V,) of the V values of an image.
        components: (d, V) orthonormal rows, the directions of largest variance first; zero before :meth:`fit`.
        explained_variance: (d,) variance along each, in squared 0..1 units.
        total_variance: of all V values together; the explained share is the sum of the former over this.
    """

    mean: Tensor
    components: Tensor
    explained_variance: Tensor
    total_variance: Tensor

    def __init__(self, config: PcaConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.fixed_side_px = config.side_px
        self.code_length = config.code_length
        value_count = config.channels * config.side_px**2
        self.register_buffer("mean", torch.zeros(value_count))
        self.register_buffer("components", torch.zeros(config.code_length, value_count))
        self.register_buffer("explained_variance", torch.zeros(config.code_length))
        self.register_buffer("total_variance", torch.zeros(()))

    def encode(self, noisy: Tensor) -> Code:
        return Code(F.linear(noisy.flatten(1) - self.mean, self.components), None)

    def decode(self, code: Tensor) -> Tensor:
        values = code @ self.components + self.mean
        return values.reshape(-1, self.channels, self.fixed_side_px, self.fixed_side_px)

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:  # noqa: ARG002 -- its code is no distribution
        code = self.encode(noisy)
        return Answer(self.decode(code.mean), code=code)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Solves for mean and components in one pass over (N, C, side, side) batches, which never lie together.

        Sums are kept in float64 and around the first image, so that nothing cancels. The sign of a component, which
        is free, makes its largest entry positive: the same images give the same weights.

        Raises:
            DataError: not more images than numbers in the code.
        """
        count = 0
        shift = torch.zeros_like(self.mean, dtype=torch.float64)
        sums = torch.zeros_like(shift)
        products = torch.zeros(len(shift), len(shift), dtype=torch.float64, device=shift.device)
        for batch in batches:
            values = batch.to(shift).flatten(1)
            if count == 0:
                shift = values[0].clone()
            values = values - shift
            count += len(values)
            sums += values.sum(0)
            products.addmm_(values.T, values)
        if count <= self.code_length:
            raise DataError(
                f"{count} images can't determine {self.code_length} principal components; give more than "
                f"{self.code_length} images or shorten network.code_length"
            )
        centre = sums / count
        covariance = (products - count * torch.outer(centre, centre)) / (count - 1)
        variances, directions = torch.linalg.eigh(covariance)
        components = directions.flip(1)[:, : self.code_length].T
        peaks = components.gather(1, components.abs().argmax(1, keepdim=True))
        self.mean.copy_(shift + centre)
        self.components.copy_(torch.where(peaks < 0, -components, components))
        self.explained_variance.copy_(variances.flip(0)[: self.code_length].clamp(min=0))
        self.total_variance.copy_(covariance.trace())
