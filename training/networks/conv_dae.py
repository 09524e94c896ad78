"""The convolutional denoising autoencoder, blind to its caller, with a noise estimator inside.

Shape rules come from what ONNX Runtime executes at full speed on x86: plain convolutions with multiples of
16 channels, strided convolutions down, 1x1 and nearest resize up, additive skips, one pixel shuffle at the tail.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ESTIMATOR_SCALE_PX, ConvDaeConfig
from training.networks.base import Answer, Network
from training.networks.layers import bias_of, residual_blocks

# The sigma map is handled inside in units of 50 eight-bit levels, which keeps it near 1 for the optimiser.
SIGMA_UNIT = 50.0 / 255.0
# Below this much noise, in the same unit (3 levels), the correction fades out: a clean picture passes unchanged.
_GATE_SIGMA = 3.0 / 50.0


def grey_weights(colour: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of one channel, out of those of the same network of three.

    It answers a grey image with the mean over the channels of what the other makes of that image three times.
    """
    grey = dict(colour)
    for name in ("head.weight", "estimator.layers.0.weight"):
        grey[name] = colour[name].sum(dim=1, keepdim=True)
    # Channel by channel, each with its 2x2 pixels.
    for name in ("tail.weight", "tail.bias"):
        grey[name] = colour[name].reshape(3, 4, *colour[name].shape[1:]).mean(dim=0)
    return grey


class NoiseEstimator(nn.Module):
    """Noisy image to a local map of its noise level, at an eighth of the size (the idea of CBDNet, CVPR 2019)."""

    scale_px = ESTIMATOR_SCALE_PX

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )
        # The first guess is 25 levels: from "no noise" the faded-out correction would never get a gradient.
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.constant_(bias_of(last), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        sigma_map: Tensor = self.layers(x)
        return sigma_map


class ConvDenoisingAutoencoder(Network):
    """Encoder, bottleneck, decoder with symmetric additive skips and a global residual.

    The first convolution halves the size; each further level halves it again. The estimator's sigma map
    enters behind that first convolution, as an extra input plane of it would, and it scales the correction down where
    there is hardly any noise, so that the ripples of zero padding at the border stay out of clean pictures.
    """

    def __init__(self, config: ConvDaeConfig) -> None:
        super().__init__()
        widths = config.widths
        # The map has an eighth of the image's size, the first level half of it.
        self._sigma_map_upscale = NoiseEstimator.scale_px // 2
        self.channels = config.channels
        self.size_multiple_px = config.size_multiple_px
        self.sigma_map_scale_px = NoiseEstimator.scale_px
        self._input_centre = config.input_centre
        self._between = nn.ReLU() if config.relu_between else nn.Identity()

        self.estimator = NoiseEstimator(config.channels, config.estimator_width)
        self.condition = nn.Conv2d(1, widths[0], 1)
        self.head = nn.Conv2d(config.channels, widths[0], config.head_px, stride=2, padding=(config.head_px - 2) // 2)
        self.encoder = nn.ModuleList(residual_blocks(w, n) for w, n in zip(widths, config.encoder_blocks, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.middle = residual_blocks(widths[-1], config.middle_blocks)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.decoder = nn.ModuleList(residual_blocks(w, n) for w, n in zip(widths, config.decoder_blocks, strict=False))
        self.tail = nn.Conv2d(widths[0], 4 * config.channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(bias_of(self.tail))

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:  # noqa: ARG002 -- it has no code to draw
        sigma_map = self.estimator(noisy)
        condition = self.condition(sigma_map)
        centred = noisy - self._input_centre if self._input_centre else noisy
        x = self.head(centred) + F.interpolate(condition, scale_factor=self._sigma_map_upscale, mode="nearest")
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(self._between(x))
        x = self._between(self.middle(x))
        for blocks, up, skip in reversed(list(zip(self.decoder, self.up, skips, strict=True))):
            x = self._between(blocks(F.interpolate(up(x), scale_factor=2, mode="nearest") + skip))
        gate = F.interpolate(
            (sigma_map / _GATE_SIGMA).clamp(0.0, 1.0), scale_factor=self._sigma_map_upscale, mode="nearest"
        )
        residual = F.pixel_shuffle(self.tail(x) * gate, 2)
        return Answer(noisy - residual, sigma_map * SIGMA_UNIT)
