"""The profile as a file: its schema, and what makes a service refuse it.

A profile is of one machine, one runtime, one arrangement of lanes and the very model files that were measured.
Anything else would be a guess with four digits, so it is refused and measured again.
"""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.cost import ModelCost, ShapeCost
from service.engine import RUNTIME_VERSION, EngineOptions, Provider

SCHEMA_VERSION: Final = 1
_COMMAND: Final = "python -m service profile --to FILE"
_REMEDY: Final = f"measure again with: {_COMMAND}, or unset DENOISED_PROFILE_FILE"


class ProfileRefused(Exception):
    """A profile can't be used; the message says which value does not fit and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ShapeProfile(_Part):
    """One unit shape.

    Attributes:
        seconds_by_count: median seconds of a batch on one lane while all lanes do the same, by units in it.
        per_unit_s, fixed_s: fitted to these.
        wide_s: median seconds of one unit alone on the wide lane.
    """

    height_px: int = Field(ge=1)
    width_px: int = Field(ge=1)
    seconds_by_count: dict[int, float]
    per_unit_s: float = Field(ge=0)
    fixed_s: float = Field(ge=0)
    wide_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _cost_is_possible(self) -> "ShapeProfile":
        ShapeCost(self.per_unit_s, self.fixed_s)
        return self


class ModelProfile(_Part):
    """One model file.

    Attributes:
        digest: SHA-256 of the file that was measured.
        spread: 95th percentile over median of a batch's time.
        gmac_per_megapixel: of its contract, for the table.
    """

    name: str
    version: str
    digest: str
    gmac_per_megapixel: float = Field(ge=0)
    spread: float = Field(ge=1)
    shapes: list[ShapeProfile] = Field(min_length=1)

    def cost(self) -> ModelCost:
        """What the cost model starts from."""
        largest = max(self.shapes, key=lambda shape: shape.height_px * shape.width_px)
        pixel_count = largest.height_px * largest.width_px
        return ModelCost(
            (largest.per_unit_s + largest.fixed_s) / pixel_count,
            {(each.height_px, each.width_px): ShapeCost(each.per_unit_s, each.fixed_s) for each in self.shapes},
        )


class Profile(_Part):
    """What was measured, and on what."""

    schema_version: Literal[1] = SCHEMA_VERSION
    onnxruntime: str
    provider: Provider
    lane_count: int = Field(ge=1)
    threads_per_lane: int = Field(ge=1)
    wide_thread_count: int = Field(ge=1)
    models: list[ModelProfile] = Field(min_length=1)

    @classmethod
    def of(cls, options: EngineOptions, models: list[ModelProfile]) -> "Profile":
        """Of this machine and this runtime."""
        return cls(
            onnxruntime=RUNTIME_VERSION,
            provider=options.provider,
            lane_count=options.lane_count,
            threads_per_lane=options.threads_per_lane,
            wide_thread_count=options.wide_thread_count,
            models=models,
        )

    def check(self, options: EngineOptions) -> None:
        """Whether it was measured on this runtime with these lanes.

        Raises:
            ProfileRefused: it was not; all differences are listed.
        """
        here = Profile.of(options, self.models)
        differences = [
            f"{name} is {getattr(self, name)} there and {getattr(here, name)} here"
            for name in ("onnxruntime", "provider", "lane_count", "threads_per_lane", "wide_thread_count")
            if getattr(self, name) != getattr(here, name)
        ]
        if differences:
            raise ProfileRefused(f"the profile is of another machine or runtime: {'; '.join(differences)}; {_REMEDY}")

    def cost_of(self, key: tuple[str, str], digest: str) -> ModelCost:
        """What the model with this name and version costs.

        Raises:
            ProfileRefused: it was not measured, or another file under its name was.
        """
        for model in self.models:
            if (model.name, model.version) == key:
                if model.digest != digest:
                    raise ProfileRefused(
                        f"the profile is of another file of {'/'.join(key)}: its digest is {model.digest[:12]}.. there "
                        f"and {digest[:12]}.. here; {_REMEDY}"
                    )
                return model.cost()
        measured = ", ".join(f"{model.name}/{model.version}" for model in self.models)
        raise ProfileRefused(f"the profile does not know {'/'.join(key)}, only: {measured}; {_REMEDY}")

    def spread(self) -> float:
        """Of the model whose batches vary most."""
        return max(model.spread for model in self.models)


def read_profile(path: Path) -> Profile:
    """The file that :func:`write_profile` wrote.

    Raises:
        ProfileRefused: it can't be read, or it is no profile; every wrong value is named.
    """
    try:
        return Profile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ProfileRefused(f"cannot read the profile {path}: {error.strerror}; {_REMEDY}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}" for problem in error.errors()
        )
        raise ProfileRefused(f"{path} is no profile of this release: {problems}; {_REMEDY}") from error


def write_profile(profile: Profile, path: Path) -> None:
    """Whole or not at all.

    Raises:
        ProfileRefused: it can't be written there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(profile.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ProfileRefused(f"the profile can't be written to {path}: {error.strerror}; name another file") from error
