"""Image folders to a pack: every file is read once, before step 0, and audited; what can't be used is listed.

Nothing is ever replaced silently, and nothing but a few images at a time is held in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from denoised.contract import SampleType
from training.data.files import as_text, find_images, name_in, open_image
from training.data.leakage import Picture, find_overlaps
from training.data.levels import Histogram, fit_levels
from training.data.manifest import VERSION, ComparedSet, Manifest, PackedImage, Quarantined, Supervision
from training.data.pack_writer import PackWriter
from training.data.reading import Decoded, decoded, image_sources, needed_bytes, pair_sources
from training.data.samples import Samples, in_channels, sample_type
from training.data.split import split
from training.errors import DataError

_OVERLAPS_TOLD: Final = 10


@dataclass(slots=True)
class _Found:
    """What has been packed of one sample type; groups are not known yet."""

    histogram: Histogram
    images: list[PackedImage] = field(default_factory=list)


def prepare(
    folder: Path,
    target: Path,
    *,
    channels: int,
    min_side_px: int = 1,
    noisy_folder: Path | None = None,
    noisy_only: bool = False,
    black: float | None = None,
    white: float | None = None,
    group_by: str | None = None,
    test_folders: Sequence[Path] = (),
    allow_overlap: bool = False,
    on_file: Callable[[Path], None] = lambda _: None,
    on_compared: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Audits and packs all images below ``folder`` into ``target``.

    Args:
        folder: searched recursively.
        target: made when missing; the manifest is written last, so a broken-off run leaves no half pack.
        channels: 1 or 3; colour becomes grey by its luma, grey becomes colour by repeating it.
        min_side_px: smaller images are quarantined.
        noisy_folder: holds a noisy partner of the same relative name for each image.
        noisy_only: the images have noise themselves, and no clean form.
        black, white: sample values, in place of fitted ones.
        group_by: see :func:`training.data.split.split`.
        test_folders: of images that must not be in the pack, whole or in part.
        allow_overlap: record test images that are in it, in place of refusing.
        on_file: called after each file.
        on_compared: called with the name of each packed image that was compared with a test folder.

    Raises:
        DataError: no usable image, a test image among them, or no room for the pack.
    """
    supervision: Supervision = "pairs" if noisy_folder is not None else "noisy" if noisy_only else "clean"
    if noisy_folder is None:
        sources, quarantined = image_sources(folder)
    else:
        sources, quarantined = pair_sources(folder, noisy_folder)
    with PackWriter(target, partial(needed_bytes, sources)) as writer:
        results = decoded(
            sources, channels=channels, min_side_px=min_side_px, on_source=lambda source: on_file(source.paths[0])
        )
        found = _write(results, writer, quarantined)
        if not found:
            raise DataError(
                f"none of the {len(quarantined)} images in {folder} can be used; first: {quarantined[0].file}: "
                f"{quarantined[0].reason}"
            )
        kind = max(found, key=lambda kind: len(found[kind].images))
        kept = found.pop(kind)
        quarantined += _of_other_types(found, kind, len(kept.images))
        fitted = fit_levels(kept.histogram, black=black, white=white)
        parts = split([i.file for i in kept.images], [i.samples_sha256 for i in kept.images], group_by=group_by)
        images = tuple(
            replace(image, group=group, held_out=held_out)
            for image, group, held_out in zip(kept.images, parts.groups, parts.held_out, strict=True)
        )
        packed = [Picture(image.file, partial(_view, writer, kind, channels, image)) for image in images]
        test_sets = tuple(_compared(test_folder, channels, packed, on_compared) for test_folder in test_folders)
        if not allow_overlap:
            _refuse_overlaps(test_sets)
        manifest = Manifest(
            version=VERSION,
            supervision=supervision,
            channels=channels,
            levels=fitted.levels,
            levels_reason=fitted.reason,
            split_rule=parts.rule,
            images=images,
            quarantined=tuple(quarantined),
            test_sets=test_sets,
        )
        writer.commit(manifest)
    return manifest


def _write(
    results: Iterator[Decoded | Quarantined], writer: PackWriter, quarantined: list[Quarantined]
) -> dict[SampleType, _Found]:
    """Packs what was decoded, each content once; adds the rest to the quarantine list."""
    found: dict[SampleType, _Found] = {}
    names: dict[tuple[str, ...], str] = {}
    for result in results:
        if isinstance(result, Quarantined):
            quarantined.append(result)
            continue
        first = names.setdefault(result.digests, result.name)
        if first != result.name:
            quarantined.append(Quarantined(result.name, f"the same samples as {first}, which is kept"))
            continue
        kind = sample_type(result.samples[0])
        of_kind = found.setdefault(kind, _Found(Histogram(kind)))
        for samples in result.samples:
            of_kind.histogram.add(samples)
        height_px, width_px, _ = result.samples[0].shape
        of_kind.images.append(
            PackedImage(
                file=result.name,
                sha256=result.sha256,
                samples_sha256=result.digests[0],
                noisy_samples_sha256="".join(result.digests[1:]),
                height_px=height_px,
                width_px=width_px,
                offset_count=writer.append(result.samples),
                group="",
                held_out=False,
                notes=result.notes,
            )
        )
    return found


def _of_other_types(others: dict[SampleType, _Found], kind: SampleType, kept_count: int) -> list[Quarantined]:
    """One pack has one sample type and one pair of levels: the type that most images have."""
    return [
        Quarantined(
            image.file,
            f"{other} samples, where {kept_count} images have {kind}; convert it, or prepare it on its own",
        )
        for other, found in others.items()
        for image in found.images
    ]


def _view(writer: PackWriter, kind: SampleType, channels: int, image: PackedImage) -> Samples:
    return writer.view(kind, image.offset_count, (image.height_px, image.width_px, channels))


def _compared(
    folder: Path, channels: int, packed: Sequence[Picture], on_compared: Callable[[str], None]
) -> ComparedSet:
    """Test images against the pack's; they need not have its sample type, since only their structure counts."""
    test = [picture for path in find_images(folder) for picture in _test_pictures(folder, path, channels)]
    return ComparedSet(as_text(folder.name), len(test), find_overlaps(packed, test, on_compared))


def _test_pictures(folder: Path, path: Path, channels: int) -> Iterator[Picture]:
    """Every plane of a test file, in the pack's channels so that exact copies are equal.

    One that can't be read can't be cleared either, so it is an error here.
    """

    def load(plane: int) -> Samples:
        try:
            with open_image(path) as file:
                return in_channels(file.read(plane).samples, channels)
        except DataError as error:
            raise DataError(f"the test image {path} {error}; mend it or take it out of the folder") from error

    try:
        with open_image(path) as file:
            names = [file.plane_name(name_in(folder, path), plane) for plane in range(file.plane_count)]
    except DataError as error:
        raise DataError(f"the test image {path} {error}; mend it or take it out of the folder") from error
    yield from (Picture(name, partial(load, plane)) for plane, name in enumerate(names))


def _refuse_overlaps(test_sets: Sequence[ComparedSet]) -> None:
    overlaps = [(test_set, overlap) for test_set in test_sets for overlap in test_set.overlaps]
    if not overlaps:
        return
    told = [f"  {s.folder}/{o.test_file}: {o.how} {o.file}" for s, o in overlaps[:_OVERLAPS_TOLD]]
    if len(overlaps) > len(told):
        told.append(f"  and {len(overlaps) - len(told)} more")
    raise DataError(
        f"{len(overlaps)} test images are among the images to train on, whole or in part, so that figures measured on "
        "them would be too good:\n" + "\n".join(told) + "\ntake them out of either folder, or pass --allow-overlap, "
        "which is recorded in the pack"
    )
