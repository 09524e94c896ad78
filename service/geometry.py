"""What an image of some size asks of a model: how it is cut, and whether the two fit each other. Pure."""

from denoised.contract import Capability, ModelContract
from service import codec, tiling
from service.errors import CapabilityMissing, UnsupportedImage
from service.job import Geometry, Options
from service.registry import Model
from service.submission import Group
from service.types import ImageHeader


def geometry_of(header: ImageHeader, model: Model, options: Options) -> Geometry:
    """The same for all images of that size.

    Raises:
        InvalidArgument: it does not fit the container that is asked for, or the model.
        CapabilityMissing: the model does not denoise.
    """
    container = options.output_container or header.container
    codec.check_encodable(header, container, jpeg_quality=options.jpeg_quality)
    contract = model.contract
    require_capability(contract, "denoise")
    check_fits(header, contract)
    plan = tiling.plan(
        height_px=header.height_px,
        width_px=header.width_px,
        edges_px=contract.unit_edges_px,
        halo_px=contract.halo_px,
        multiple_px=contract.size_multiple_px,
    )
    group = Group(model.key, contract.channels, plan.rows.edge_px, plan.columns.edge_px)
    return Geometry(header, container, plan, group)


def require_capability(contract: ModelContract, capability: Capability) -> None:
    """Raises CapabilityMissing unless the model can do it."""
    if capability not in contract.capabilities:
        raise CapabilityMissing(
            f"the model {contract.name!r} can't {capability}, it can {', '.join(contract.capabilities)}; "
            "choose another one, ListModels tells what each can"
        )


def check_fits(header: ImageHeader, contract: ModelContract) -> None:
    """Raises UnsupportedImage unless the model takes images like this one."""
    if contract.channels == 1 and header.channels >= 3:
        raise UnsupportedImage(
            f"the image has colour and the model {contract.name!r} takes grey images only; "
            "choose a colour model or send a grey image",
            field="options.model",
        )
    side_px = contract.fixed_side_px
    if side_px and (header.width_px, header.height_px) != (side_px, side_px):
        raise UnsupportedImage(
            f"the image has {header.width_px} x {header.height_px} px and the model {contract.name!r} takes images of "
            f"{side_px} x {side_px} px only; scale or crop it to that size, or choose another model",
            field="options.model",
        )
