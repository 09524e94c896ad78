"""What an evaluation is made of, from what a user asked for: images, conditions, components to compare codes with."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from denoised.contract import SampleLevels
from denoised.noise import Image
from training.config import PcaConfig, RunConfig
from training.data.pack import Pack
from training.errors import ConfigError, DataError
from training.evaluation.conditions import Conditions, GaussianNoise, OwnNoise, RecordedNoise, default_conditions
from training.evaluation.inference import apply_network, to_batch
from training.evaluation.measure import Baseline
from training.evaluation.subjects import Folder, HeldOut, ImageSet
from training.networks import PrincipalComponents
from training.networks.base import LatentNetwork
from training.run.trained import Trained

_BATCH = 1024


def chosen_images(
    trained: Trained, *, pack: Pack | None, folder: Path | None, noisy: Path | None = None, name: str | None = None
) -> ImageSet:
    """A folder of images, or the held-out part of the pack.

    Args:
        trained: whose channels, size, and levels of black and white the images get.
        pack: of the run.
        folder: of images; the pack's held-out ones when left out.
        noisy: folder of their noisy forms.
        name: of the set.

    Raises:
        ConfigError: neither, a noisy folder without a clean one, or a name that no file can have.
        DataError: no images, or a pack that the run was not trained on.
    """
    network = trained.network
    if name is not None and (not name or name.startswith(".") or "/" in name or "\\" in name):
        raise ConfigError(f"--name {name!r}: files are called by it; leave out slashes and a leading dot")
    if pack is not None and pack.manifest.channels != network.channels:
        raise DataError(f"the pack has {pack.manifest.channels} channels, the network takes {network.channels}")
    if pack is not None and pack.manifest.levels != trained.levels:
        raise DataError(
            f"the pack has {_levels_text(pack.manifest.levels)}, the run was trained on "
            f"{_levels_text(trained.levels)}; give the pack of the run with --data, or leave it out"
        )
    if folder is None:
        if pack is None or noisy is not None:
            raise ConfigError("name the images with --images FOLDER, or --data PACK for its held-out images")
        _require_own_pack(trained, pack)
        return HeldOut(pack, side_px=network.fixed_side_px, name=name)
    return Folder(
        folder,
        channels=network.channels,
        levels=trained.levels,
        side_px=network.fixed_side_px,
        noisy_folder=noisy,
        name=name,
    )


def chosen_conditions(
    config: RunConfig,
    images: ImageSet,
    *,
    sigmas: Sequence[float] | None = None,
    severities: Sequence[float] | None = None,
) -> Conditions:
    """The noise: what was asked for, what is in the files, or what the run was made for.

    Raises:
        ConfigError: two kinds at once, levels out of range, or a run whose noise is in its data without such data.
    """
    if sum((sigmas is not None, severities is not None)) > 1:
        raise ConfigError("--sigmas and --severities are two kinds of noise; choose one")
    if sigmas is not None:
        return GaussianNoise(tuple(sorted(set(sigmas))))
    if severities is not None:
        return OwnNoise(config.noise, tuple(sorted(set(severities))))
    if images.has_pairs:
        return RecordedNoise()
    if config.data.supervision != "clean" and not config.noise.stages:
        raise ConfigError(
            f"this run learnt from noise in its {config.data.supervision} images, of which nothing is known: give "
            "recorded pairs with --noisy, choose Gaussian levels with --sigmas, or estimate with --without-clean"
        )
    return default_conditions(config.noise, has_code=config.network.code_length is not None)


def training_pictures(trained: Trained, pack: Pack) -> list[tuple[Image, str]]:
    """The pack's training images with the names of their folders, for networks with a code.

    Raises:
        DataError: the run was trained on another pack.
    """
    _require_own_pack(trained, pack)
    side_px = trained.network.fixed_side_px
    assert side_px is not None
    pictures = []
    for image in pack.training_images():
        if min(image.height_px, image.width_px) >= side_px:
            top, left = (image.height_px - side_px) // 2, (image.width_px - side_px) // 2
            unit = pack.unit(image, slice(top, top + side_px), slice(left, left + side_px))
            pictures.append((unit, Path(image.file).parent.name))
    return pictures


def _require_own_pack(trained: Trained, pack: Pack) -> None:
    """Another pack holds out other images: its held-out ones may be those that this run has learnt."""
    if pack.manifest.digest != trained.pack_digest:
        raise DataError(
            f"the pack {pack.manifest.digest[:16]} is not the one that the run was trained on "
            f"({trained.pack_digest[:16]}); give that one with --data, or name a folder with --images"
        )


def _levels_text(levels: SampleLevels) -> str:
    return f"{levels.sample_type} samples with black {levels.black:g} and white {levels.white:g}"


def components_of(network: LatentNetwork, pictures: Iterable[Image]) -> PrincipalComponents:
    """Principal components of the length of the network's code, solved on clean training images."""
    config = PcaConfig(
        kind="pca",
        channels=3 if network.channels == 3 else 1,
        side_px=network.fixed_side_px,
        code_length=network.code_length,
    )
    components = PrincipalComponents(config)
    images = list(pictures)
    components.fit(to_batch(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH))
    return components.eval()


def components_baseline(components: PrincipalComponents) -> Baseline:
    """Down to the code and back."""
    return lambda noisy, _sigma: apply_network(components, noisy).image
