"""Small raw images of one kind side by side: each is one unit, all are queued, run and answered as one.

A 28 x 28 image costs the network less than its way through queue and lane by itself. Images of one kind that come in
the same turn of the event loop share that way; each still has its own outcome.
"""

from collections.abc import Sequence

import numpy as np

from service import codec, pixels
from service.image_tiles import mean_of_map
from service.job import RawOrder
from service.pixels import NonFiniteSamples
from service.types import Data, Samples, Units


class Stack:
    """Images of one order and their answers. Units are numbered as the images are."""

    def __init__(self, order: RawOrder, data: Sequence[Data]) -> None:
        """``data`` are the samples of each image; ``order.is_small`` holds."""
        self._order = order
        self._data = data
        header = order.geometry.header
        samples = codec.view_raw(data[0], header, order.layout)
        # In the layout of the requests, one image after the other.
        self._answers: Samples = np.empty((len(data), *_in_layout(samples, order).shape), samples.dtype)
        self.outside_counts = [0] * len(data)
        self.mean_sigmas: list[float | None] = [None] * len(data)

    def answer(self, index: int) -> memoryview:
        """The answer's samples, once unit ``index`` is done."""
        answer: Samples = self._answers[index]
        return answer.reshape(-1).view(np.uint8).data

    def read(self, first: int, count: int, out: Units) -> None:
        """See :class:`service.lanes.Tiles`."""
        if self._order.is_plain:
            samples = np.frombuffer(b"".join(self._data[first : first + count]), self._answers.dtype)
            pixels.read_planes(samples, out.reshape(-1), self._order.scale)
            return
        for index in range(first, first + count):
            samples = self._samples(index)
            whole = (slice(0, samples.shape[0]), slice(0, samples.shape[1]))
            try:
                self.outside_counts[index] = pixels.read_unit(
                    samples, out[index - first], self._order.scale, counted=whole
                )
            except NonFiniteSamples:
                raise codec.nonfinite_samples(samples) from None

    def write(self, first: int, count: int, denoised: Units, noisy: Units, sigma_maps: Units | None) -> None:
        """See :class:`service.lanes.Tiles`."""
        if sigma_maps is not None:
            for index in range(first, first + count):
                self.mean_sigmas[index] = mean_of_map(sigma_maps[index - first])
        if self._order.is_plain:
            answers = self._answers[first : first + count].reshape(-1)
            pixels.write_planes(denoised.reshape(-1), answers, self._order.scale)
            return
        for index in range(first, first + count):
            answer = self._answers[index]
            self._write(
                denoised[index - first],
                noisy[index - first],
                _out_of_layout(answer, self._order),
                grey=pixels.is_grey(self._samples(index)),
            )

    def _write(self, denoised: Units, noisy: Units, target: Samples, *, grey: bool) -> None:
        pixels.write_unit(
            denoised,
            noisy,
            target,
            top_px=0,
            left_px=0,
            strength=self._order.options.strength,
            scale=self._order.scale,
            grey=grey,
        )

    def _samples(self, index: int) -> Samples:
        return codec.view_raw(self._data[index], self._order.geometry.header, self._order.layout)


def _in_layout(samples: Samples, order: RawOrder) -> Samples:
    return samples if order.layout is codec.SampleLayout.HWC else samples.transpose(2, 0, 1)


def _out_of_layout(samples: Samples, order: RawOrder) -> Samples:
    return samples if order.layout is codec.SampleLayout.HWC else samples.transpose(1, 2, 0)
