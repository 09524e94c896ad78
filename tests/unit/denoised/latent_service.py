"""A real gRPC server whose model's codes are the image's own samples, divided by 255, so that every answer is known."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status

from denoised.v1 import denoised_pb2 as pb
from denoised.v1 import denoised_pb2_grpc
from tests.unit.denoised.conftest import Refusal

SIDE_PX = 2
MODEL = pb.ModelReference(name="digits", version="3", digest="cd" * 32)
TIMINGS = pb.Timings(compute=Duration(nanos=250_000_000), total=Duration(seconds=1, nanos=500_000_000))


@dataclass
class LatentService(denoised_pb2_grpc.DenoiseServiceServicer):
    """Answers each request, or refuses it with the next refusal of ``script``.

    Attributes:
        requests: what came.
        has_prior: whether the distribution of codes is known.
        answers_nonsense: images come back with too few samples.
    """

    script: deque[Refusal] = field(default_factory=deque)
    requests: list[Any] = field(default_factory=list)
    has_prior: bool = True
    answers_nonsense: bool = False

    def Encode(  # noqa: N802 -- the generated name
        self, request: pb.EncodeRequest, context: grpc.ServicerContext
    ) -> pb.EncodeResponse:
        self._note(request, context)
        response = pb.EncodeResponse(timings=TIMINGS, model=MODEL)
        data = request.image.raw.data or request.image.encoded.data
        code = np.frombuffer(data, np.uint8).astype(np.float32) / np.float32(255)
        if request.half_precision:
            response.latent.half_values = code.astype("<f2").tobytes()
        else:
            response.latent.values.extend(code.tolist())
        if self.has_prior:
            response.prior_distance, response.prior_distance_limit, response.compression_nats = 1.5, 8.0, 12.25
        return response

    def Decode(  # noqa: N802 -- the generated name
        self, request: pb.DecodeRequest, context: grpc.ServicerContext
    ) -> pb.DecodeResponse:
        self._note(request, context)
        return pb.DecodeResponse(image=self._image(request.picture, 7), timings=TIMINGS, model=MODEL)

    def Generate(  # noqa: N802 -- the generated name
        self, request: pb.GenerateRequest, context: grpc.ServicerContext
    ) -> pb.GenerateResponse:
        self._note(request, context)
        return pb.GenerateResponse(
            images=[self._image(request.picture, index) for index in range(request.image_count)],
            latents=[pb.Latent(values=[index, 0.5]) for index in range(request.image_count)],
            seed=request.seed if request.HasField("seed") else 42,
            timings=TIMINGS,
            model=MODEL,
        )

    def Interpolate(  # noqa: N802 -- the generated name
        self, request: pb.InterpolateRequest, context: grpc.ServicerContext
    ) -> pb.InterpolateResponse:
        self._note(request, context)
        count = request.step_count if request.HasField("step_count") else 8
        return pb.InterpolateResponse(
            images=[self._image(request.picture, index) for index in range(count)],
            latents=[pb.Latent(values=[index, 0.5]) for index in range(count)],
            spherical=True,
            timings=TIMINGS,
            model=MODEL,
        )

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.script:
            context.abort_with_status(rpc_status.to_status(self.script.popleft().status()))

    def _image(self, options: pb.PictureOptions, value: int) -> pb.Image:
        if options.container:
            return pb.Image(encoded=pb.EncodedImage(data=b"file %d" % value, container=options.container))
        sample_type = options.sample_type or pb.SAMPLE_TYPE_U8
        dtype = {pb.SAMPLE_TYPE_U8: "<u1", pb.SAMPLE_TYPE_U16: "<u2", pb.SAMPLE_TYPE_F32: "<f4"}[sample_type]
        data = np.full((SIDE_PX, SIDE_PX), value, dtype).tobytes()
        raw = pb.RawImage(
            data=data[1:] if self.answers_nonsense else data,
            sample_type=sample_type,
            height_px=SIDE_PX,
            width_px=SIDE_PX,
            channel_count=1,
        )
        return pb.Image(raw=raw)


@contextmanager
def latent_server(service: LatentService) -> Iterator[str]:
    """Where it listens."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        server = grpc.server(threads)
        denoised_pb2_grpc.add_DenoiseServiceServicer_to_server(  # type: ignore[no-untyped-call]  # generated
            service, server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(grace=None).wait()
