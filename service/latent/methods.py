"""The methods of models with a code: messages in, the coder's stages called, messages out."""

from collections.abc import Callable
from typing import Final

import grpc
import numpy as np

from denoised.v1 import denoised_pb2 as pb
from service import convert, wire
from service.clients import Clients, Context
from service.deadlines import Deadlines
from service.errors import ImageTooLarge
from service.identities import capped
from service.latent import answers
from service.latent.coder import Coder, Visit, Visitor
from service.latent.messages import Chosen, Limits, Requests, Target
from service.latent.units import CodesToPictures
from service.registry import Registry
from service.status import Calls, when_over
from service.types import Codes, Container

_SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["DenoiseService"].full_name


class LatentMethods:
    """Serves Encode, Decode, Generate and Interpolate."""

    def __init__(
        self, *, coder: Coder, registry: Callable[[], Registry], limits: Limits, clients: Clients, deadlines: Deadlines
    ) -> None:
        """``clients`` tells who calls, ``deadlines`` until when."""
        self._coder = coder
        self._requests = Requests(registry=registry, limits=limits)
        self._limits = limits
        self._clients = clients
        self._deadlines = deadlines

    def handler(self, calls: Calls) -> grpc.GenericRpcHandler:
        """All methods, for the server."""
        unary = grpc.unary_unary_rpc_method_handler
        methods = {
            "Encode": self._encode,
            "Decode": self._decode,
            "Generate": self._generate,
            "Interpolate": self._interpolate,
        }
        return grpc.method_handlers_generic_handler(
            _SERVICE_NAME, {name: unary(calls.unary(method, name)) for name, method in methods.items()}
        )

    async def _encode(self, message: bytes, context: Context) -> bytes:
        asked = self._requests.encoding(wire.parse(pb.EncodeRequest, message))
        visit = self._coder.enter(asked.plan(), self._visitor(asked.chosen, context))
        when_over(context, visit.close)
        encoded = await self._coder.encode(visit, [asked.image.read])
        prior, code = asked.chosen.prior, encoded.codes[0]
        log_variance = None if encoded.log_variances is None else encoded.log_variances[0]
        latent = answers.latent_message(code, is_half=asked.is_half)
        response = pb.EncodeResponse(
            latent=latent,
            prior_distance=prior.distance(code),
            prior_distance_limit=prior.distance_limit,
            compression_nats=prior.compression_nats(code, log_variance),
            timings=answers.timings_message(self._coder.leave(visit, "Encode")),
            model=convert.reference(asked.chosen.model),
        )
        return response.SerializeToString()

    async def _decode(self, message: bytes, context: Context) -> bytes:
        asked = self._requests.decoding(wire.parse(pb.DecodeRequest, message))
        visit = self._coder.enter(asked.plan(), self._visitor(asked.chosen, context))
        when_over(context, visit.close)
        decoded = await self._coder.decode(visit, lambda _: asked.code)
        images = await self._images(visit, decoded, asked.target)
        response = pb.DecodeResponse(
            image=images[0],
            timings=answers.timings_message(self._coder.leave(visit, "Decode")),
            model=convert.reference(asked.chosen.model),
        )
        return self._fitting(response.SerializeToString())

    async def _generate(self, message: bytes, context: Context) -> bytes:
        asked = self._requests.generating(wire.parse(pb.GenerateRequest, message))
        visit = self._coder.enter(asked.plan(), self._visitor(asked.chosen, context))
        when_over(context, visit.close)
        decoded = await self._coder.decode(visit, asked.code)
        images = await self._images(visit, decoded, asked.target)
        response = pb.GenerateResponse(
            images=images,
            latents=_latents(decoded.codes),
            seed=asked.seed,
            timings=answers.timings_message(self._coder.leave(visit, "Generate")),
            model=convert.reference(asked.chosen.model),
        )
        return self._fitting(response.SerializeToString())

    async def _interpolate(self, message: bytes, context: Context) -> bytes:
        asked = self._requests.interpolating(wire.parse(pb.InterpolateRequest, message))
        visit = self._coder.enter(asked.plan(), self._visitor(asked.chosen, context))
        when_over(context, visit.close)
        codes: Codes = np.empty((0, asked.chosen.prior.code_length), np.float32)
        if asked.images:
            codes = (await self._coder.encode(visit, [image.read for image in asked.images])).codes
        decoded = await self._coder.decode(visit, asked.code_of(codes))
        images = await self._images(visit, decoded, asked.target)
        response = pb.InterpolateResponse(
            images=images,
            latents=_latents(decoded.codes),
            spherical=asked.is_spherical,
            timings=answers.timings_message(self._coder.leave(visit, "Interpolate")),
            model=convert.reference(asked.chosen.model),
        )
        return self._fitting(response.SerializeToString())

    async def _images(self, visit: Visit, decoded: CodesToPictures, target: Target) -> list[pb.Image]:
        images = answers.images_of(decoded.pictures, target)
        if target.container is Container.RAW:
            return answers.raw_messages(images)
        files = await self._coder.write(visit, images, target.container, target.jpeg_quality)
        return answers.file_messages(files, target.container)

    def _visitor(self, chosen: Chosen, context: Context) -> Visitor:
        client = self._clients.of(context)
        service_class = capped(chosen.service_class, client.most_urgent_class)
        return Visitor(client, service_class, self._deadlines.of(context))

    def _fitting(self, reply: bytes) -> bytes:
        """Files may be a little larger than their samples, by which the request was judged."""
        if len(reply) > self._limits.message_bytes:
            raise ImageTooLarge(
                f"the answer has {len(reply)} bytes; a message holds at most {self._limits.message_bytes}; "
                "ask for fewer images at once, or for raw samples",
                field="picture",
            )
        return reply


def _latents(codes: Codes) -> list[pb.Latent]:
    return [answers.latent_message(code) for code in codes]
