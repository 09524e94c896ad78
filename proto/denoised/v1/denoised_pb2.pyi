import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Container(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTAINER_UNSPECIFIED: _ClassVar[Container]
    CONTAINER_PNG: _ClassVar[Container]
    CONTAINER_JPEG: _ClassVar[Container]
    CONTAINER_RAW: _ClassVar[Container]

class SampleType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLE_TYPE_UNSPECIFIED: _ClassVar[SampleType]
    SAMPLE_TYPE_U8: _ClassVar[SampleType]
    SAMPLE_TYPE_U16: _ClassVar[SampleType]
    SAMPLE_TYPE_F32: _ClassVar[SampleType]

class SampleLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLE_LAYOUT_UNSPECIFIED: _ClassVar[SampleLayout]
    SAMPLE_LAYOUT_HWC: _ClassVar[SampleLayout]
    SAMPLE_LAYOUT_CHW: _ClassVar[SampleLayout]

class ReportLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPORT_LEVEL_UNSPECIFIED: _ClassVar[ReportLevel]
    REPORT_LEVEL_NONE: _ClassVar[ReportLevel]
    REPORT_LEVEL_FAST: _ClassVar[ReportLevel]
    REPORT_LEVEL_SURE: _ClassVar[ReportLevel]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_OK: _ClassVar[Verdict]
    VERDICT_OUT_OF_RANGE_SIGMA: _ClassVar[Verdict]
    VERDICT_NOISE_CORRELATED: _ClassVar[Verdict]
    VERDICT_CLIPPED_INPUT: _ClassVar[Verdict]
    VERDICT_HIGH_RECONSTRUCTION_ENERGY: _ClassVar[Verdict]
    VERDICT_TINTED: _ClassVar[Verdict]
    VERDICT_ALREADY_CLEAN: _ClassVar[Verdict]

class ServiceClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVICE_CLASS_UNSPECIFIED: _ClassVar[ServiceClass]
    SERVICE_CLASS_INTERACTIVE: _ClassVar[ServiceClass]
    SERVICE_CLASS_NORMAL: _ClassVar[ServiceClass]
    SERVICE_CLASS_BULK: _ClassVar[ServiceClass]

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_DENOISE: _ClassVar[Capability]
    CAPABILITY_ENCODE: _ClassVar[Capability]
    CAPABILITY_DECODE: _ClassVar[Capability]
    CAPABILITY_GENERATE: _ClassVar[Capability]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FP32: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]
CONTAINER_UNSPECIFIED: Container
CONTAINER_PNG: Container
CONTAINER_JPEG: Container
CONTAINER_RAW: Container
SAMPLE_TYPE_UNSPECIFIED: SampleType
SAMPLE_TYPE_U8: SampleType
SAMPLE_TYPE_U16: SampleType
SAMPLE_TYPE_F32: SampleType
SAMPLE_LAYOUT_UNSPECIFIED: SampleLayout
SAMPLE_LAYOUT_HWC: SampleLayout
SAMPLE_LAYOUT_CHW: SampleLayout
REPORT_LEVEL_UNSPECIFIED: ReportLevel
REPORT_LEVEL_NONE: ReportLevel
REPORT_LEVEL_FAST: ReportLevel
REPORT_LEVEL_SURE: ReportLevel
VERDICT_UNSPECIFIED: Verdict
VERDICT_OK: Verdict
VERDICT_OUT_OF_RANGE_SIGMA: Verdict
VERDICT_NOISE_CORRELATED: Verdict
VERDICT_CLIPPED_INPUT: Verdict
VERDICT_HIGH_RECONSTRUCTION_ENERGY: Verdict
VERDICT_TINTED: Verdict
VERDICT_ALREADY_CLEAN: Verdict
SERVICE_CLASS_UNSPECIFIED: ServiceClass
SERVICE_CLASS_INTERACTIVE: ServiceClass
SERVICE_CLASS_NORMAL: ServiceClass
SERVICE_CLASS_BULK: ServiceClass
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_DENOISE: Capability
CAPABILITY_ENCODE: Capability
CAPABILITY_DECODE: Capability
CAPABILITY_GENERATE: Capability
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_INT8: Precision

class EncodedImage(_message.Message):
    __slots__ = ("data", "container", "black_level", "white_level")
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    BLACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    WHITE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    container: Container
    black_level: float
    white_level: float
    def __init__(self, data: _Optional[bytes] = ..., container: _Optional[_Union[Container, str]] = ..., black_level: _Optional[float] = ..., white_level: _Optional[float] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("data", "sample_type", "layout", "height_px", "width_px", "channel_count", "black_level", "white_level")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TYPE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    BLACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    WHITE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    sample_type: SampleType
    layout: SampleLayout
    height_px: int
    width_px: int
    channel_count: int
    black_level: float
    white_level: float
    def __init__(self, data: _Optional[bytes] = ..., sample_type: _Optional[_Union[SampleType, str]] = ..., layout: _Optional[_Union[SampleLayout, str]] = ..., height_px: _Optional[int] = ..., width_px: _Optional[int] = ..., channel_count: _Optional[int] = ..., black_level: _Optional[float] = ..., white_level: _Optional[float] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("encoded", "raw")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    encoded: EncodedImage
    raw: RawImage
    def __init__(self, encoded: _Optional[_Union[EncodedImage, _Mapping]] = ..., raw: _Optional[_Union[RawImage, _Mapping]] = ...) -> None: ...

class DenoiseOptions(_message.Message):
    __slots__ = ("model", "model_version", "strength", "output_container", "jpeg_quality", "service_class", "report_level", "report_only", "noise_sigma")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_CONTAINER_FIELD_NUMBER: _ClassVar[int]
    JPEG_QUALITY_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    REPORT_LEVEL_FIELD_NUMBER: _ClassVar[int]
    REPORT_ONLY_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    strength: float
    output_container: Container
    jpeg_quality: int
    service_class: ServiceClass
    report_level: ReportLevel
    report_only: bool
    noise_sigma: float
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., strength: _Optional[float] = ..., output_container: _Optional[_Union[Container, str]] = ..., jpeg_quality: _Optional[int] = ..., service_class: _Optional[_Union[ServiceClass, str]] = ..., report_level: _Optional[_Union[ReportLevel, str]] = ..., report_only: bool = ..., noise_sigma: _Optional[float] = ...) -> None: ...

class DenoiseRequest(_message.Message):
    __slots__ = ("image", "options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: Image
    options: DenoiseOptions
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., options: _Optional[_Union[DenoiseOptions, _Mapping]] = ...) -> None: ...

class NoiseReport(_message.Message):
    __slots__ = ("noise_sigma", "sigma_in_trained_range", "clipped_sample_count")
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    SIGMA_IN_TRAINED_RANGE_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    noise_sigma: float
    sigma_in_trained_range: bool
    clipped_sample_count: int
    def __init__(self, noise_sigma: _Optional[float] = ..., sigma_in_trained_range: bool = ..., clipped_sample_count: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("decode", "queue", "compute", "encode", "total")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    decode: _duration_pb2.Duration
    queue: _duration_pb2.Duration
    compute: _duration_pb2.Duration
    encode: _duration_pb2.Duration
    total: _duration_pb2.Duration
    def __init__(self, decode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compute: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encode: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Batching(_message.Message):
    __slots__ = ("tile_count", "shared_request_count", "shared_client_count")
    TILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARED_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARED_CLIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    tile_count: int
    shared_request_count: int
    shared_client_count: int
    def __init__(self, tile_count: _Optional[int] = ..., shared_request_count: _Optional[int] = ..., shared_client_count: _Optional[int] = ...) -> None: ...

class ModelReference(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class DenoiseResponse(_message.Message):
    __slots__ = ("image", "report", "timings", "batching", "model", "energy")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    image: Image
    report: NoiseReport
    timings: Timings
    batching: Batching
    model: ModelReference
    energy: EnergyReport
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., report: _Optional[_Union[NoiseReport, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., batching: _Optional[_Union[Batching, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ..., energy: _Optional[_Union[EnergyReport, _Mapping]] = ...) -> None: ...

class Statistic(_message.Message):
    __slots__ = ("value", "quantile", "threshold", "verdict")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    value: float
    quantile: float
    threshold: float
    verdict: Verdict
    def __init__(self, value: _Optional[float] = ..., quantile: _Optional[float] = ..., threshold: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class Sure(_message.Message):
    __slots__ = ("mean_square_error", "psnr_db", "noise_sigma", "noise_sigma_is_given", "seed", "height_px", "width_px")
    MEAN_SQUARE_ERROR_FIELD_NUMBER: _ClassVar[int]
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_IS_GIVEN_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    mean_square_error: float
    psnr_db: float
    noise_sigma: float
    noise_sigma_is_given: bool
    seed: int
    height_px: int
    width_px: int
    def __init__(self, mean_square_error: _Optional[float] = ..., psnr_db: _Optional[float] = ..., noise_sigma: _Optional[float] = ..., noise_sigma_is_given: bool = ..., seed: _Optional[int] = ..., height_px: _Optional[int] = ..., width_px: _Optional[int] = ...) -> None: ...

class EnergyReport(_message.Message):
    __slots__ = ("level", "sampled_one_in", "verdicts", "noise_sigma", "wavelet_sigma", "immerkaer_sigma", "removed_fraction", "correlation_horizontal", "correlation_vertical", "neighbour_correlation", "channel_correlation", "clipped_share", "tail_score", "colour_bias", "channel_bias", "complexity_bits_per_pixel", "reconstruction_bits_per_pixel", "compression_nats", "total_bits_per_pixel", "sure")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_ONE_IN_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    WAVELET_SIGMA_FIELD_NUMBER: _ClassVar[int]
    IMMERKAER_SIGMA_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_HORIZONTAL_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_VERTICAL_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOUR_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SHARE_FIELD_NUMBER: _ClassVar[int]
    TAIL_SCORE_FIELD_NUMBER: _ClassVar[int]
    COLOUR_BIAS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_BIAS_FIELD_NUMBER: _ClassVar[int]
    COMPLEXITY_BITS_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCTION_BITS_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_NATS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BITS_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    SURE_FIELD_NUMBER: _ClassVar[int]
    level: ReportLevel
    sampled_one_in: int
    verdicts: _containers.RepeatedScalarFieldContainer[Verdict]
    noise_sigma: Statistic
    wavelet_sigma: Statistic
    immerkaer_sigma: Statistic
    removed_fraction: Statistic
    correlation_horizontal: Statistic
    correlation_vertical: Statistic
    neighbour_correlation: Statistic
    channel_correlation: Statistic
    clipped_share: Statistic
    tail_score: Statistic
    colour_bias: Statistic
    channel_bias: _containers.RepeatedScalarFieldContainer[float]
    complexity_bits_per_pixel: Statistic
    reconstruction_bits_per_pixel: Statistic
    compression_nats: Statistic
    total_bits_per_pixel: Statistic
    sure: Sure
    def __init__(self, level: _Optional[_Union[ReportLevel, str]] = ..., sampled_one_in: _Optional[int] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, str]]] = ..., noise_sigma: _Optional[_Union[Statistic, _Mapping]] = ..., wavelet_sigma: _Optional[_Union[Statistic, _Mapping]] = ..., immerkaer_sigma: _Optional[_Union[Statistic, _Mapping]] = ..., removed_fraction: _Optional[_Union[Statistic, _Mapping]] = ..., correlation_horizontal: _Optional[_Union[Statistic, _Mapping]] = ..., correlation_vertical: _Optional[_Union[Statistic, _Mapping]] = ..., neighbour_correlation: _Optional[_Union[Statistic, _Mapping]] = ..., channel_correlation: _Optional[_Union[Statistic, _Mapping]] = ..., clipped_share: _Optional[_Union[Statistic, _Mapping]] = ..., tail_score: _Optional[_Union[Statistic, _Mapping]] = ..., colour_bias: _Optional[_Union[Statistic, _Mapping]] = ..., channel_bias: _Optional[_Iterable[float]] = ..., complexity_bits_per_pixel: _Optional[_Union[Statistic, _Mapping]] = ..., reconstruction_bits_per_pixel: _Optional[_Union[Statistic, _Mapping]] = ..., compression_nats: _Optional[_Union[Statistic, _Mapping]] = ..., total_bits_per_pixel: _Optional[_Union[Statistic, _Mapping]] = ..., sure: _Optional[_Union[Sure, _Mapping]] = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("image", "options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: Image
    options: InspectOptions
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., options: _Optional[_Union[InspectOptions, _Mapping]] = ...) -> None: ...

class InspectOptions(_message.Message):
    __slots__ = ("model", "model_version", "service_class", "report_level", "noise_sigma")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    REPORT_LEVEL_FIELD_NUMBER: _ClassVar[int]
    NOISE_SIGMA_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    service_class: ServiceClass
    report_level: ReportLevel
    noise_sigma: float
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., service_class: _Optional[_Union[ServiceClass, str]] = ..., report_level: _Optional[_Union[ReportLevel, str]] = ..., noise_sigma: _Optional[float] = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("report", "timings", "batching", "model", "energy")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    report: NoiseReport
    timings: Timings
    batching: Batching
    model: ModelReference
    energy: EnergyReport
    def __init__(self, report: _Optional[_Union[NoiseReport, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., batching: _Optional[_Union[Batching, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ..., energy: _Optional[_Union[EnergyReport, _Mapping]] = ...) -> None: ...

class DenoiseBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[DenoiseRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[DenoiseRequest, _Mapping]]] = ...) -> None: ...

class DenoiseResult(_message.Message):
    __slots__ = ("status", "response")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.Status
    response: DenoiseResponse
    def __init__(self, status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., response: _Optional[_Union[DenoiseResponse, _Mapping]] = ...) -> None: ...

class DenoiseBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DenoiseResult]
    def __init__(self, results: _Optional[_Iterable[_Union[DenoiseResult, _Mapping]]] = ...) -> None: ...

class ImageHeader(_message.Message):
    __slots__ = ("options", "size_bytes", "image", "progress")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    options: DenoiseOptions
    size_bytes: int
    image: Image
    progress: bool
    def __init__(self, options: _Optional[_Union[DenoiseOptions, _Mapping]] = ..., size_bytes: _Optional[int] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., progress: bool = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("received_bytes", "done_tile_count", "tile_count")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DONE_TILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    done_tile_count: int
    tile_count: int
    def __init__(self, received_bytes: _Optional[int] = ..., done_tile_count: _Optional[int] = ..., tile_count: _Optional[int] = ...) -> None: ...

class CancelItem(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DenoiseStreamRequest(_message.Message):
    __slots__ = ("item_id", "request", "header", "chunk", "cancel", "timeout")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    request: DenoiseRequest
    header: ImageHeader
    chunk: ImageChunk
    cancel: CancelItem
    timeout: _duration_pb2.Duration
    def __init__(self, item_id: _Optional[str] = ..., request: _Optional[_Union[DenoiseRequest, _Mapping]] = ..., header: _Optional[_Union[ImageHeader, _Mapping]] = ..., chunk: _Optional[_Union[ImageChunk, _Mapping]] = ..., cancel: _Optional[_Union[CancelItem, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DenoiseStreamResponse(_message.Message):
    __slots__ = ("item_id", "result", "chunk", "progress")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    result: DenoiseResult
    chunk: ImageChunk
    progress: Progress
    def __init__(self, item_id: _Optional[str] = ..., result: _Optional[_Union[DenoiseResult, _Mapping]] = ..., chunk: _Optional[_Union[ImageChunk, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("reference", "summary", "channel_count", "sigma_min", "sigma_max", "clips_input", "gmac_per_megapixel", "license", "is_default", "kind", "capabilities", "precision", "fixed_side_px", "code_length", "sample_type", "black_level", "white_level")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIGMA_MIN_FIELD_NUMBER: _ClassVar[int]
    SIGMA_MAX_FIELD_NUMBER: _ClassVar[int]
    CLIPS_INPUT_FIELD_NUMBER: _ClassVar[int]
    GMAC_PER_MEGAPIXEL_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    FIXED_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    CODE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TYPE_FIELD_NUMBER: _ClassVar[int]
    BLACK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    WHITE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    reference: ModelReference
    summary: str
    channel_count: int
    sigma_min: float
    sigma_max: float
    clips_input: bool
    gmac_per_megapixel: float
    license: str
    is_default: bool
    kind: str
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    precision: Precision
    fixed_side_px: int
    code_length: int
    sample_type: SampleType
    black_level: float
    white_level: float
    def __init__(self, reference: _Optional[_Union[ModelReference, _Mapping]] = ..., summary: _Optional[str] = ..., channel_count: _Optional[int] = ..., sigma_min: _Optional[float] = ..., sigma_max: _Optional[float] = ..., clips_input: bool = ..., gmac_per_megapixel: _Optional[float] = ..., license: _Optional[str] = ..., is_default: bool = ..., kind: _Optional[str] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., precision: _Optional[_Union[Precision, str]] = ..., fixed_side_px: _Optional[int] = ..., code_length: _Optional[int] = ..., sample_type: _Optional[_Union[SampleType, str]] = ..., black_level: _Optional[float] = ..., white_level: _Optional[float] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "limits")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    limits: Limits
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("message_bytes", "image_pixels", "batch_image_count", "chunked_image_pixels", "generated_image_count", "interpolation_step_count")
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    BATCH_IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHUNKED_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    GENERATED_IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    message_bytes: int
    image_pixels: int
    batch_image_count: int
    chunked_image_pixels: int
    generated_image_count: int
    interpolation_step_count: int
    def __init__(self, message_bytes: _Optional[int] = ..., image_pixels: _Optional[int] = ..., batch_image_count: _Optional[int] = ..., chunked_image_pixels: _Optional[int] = ..., generated_image_count: _Optional[int] = ..., interpolation_step_count: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Latent(_message.Message):
    __slots__ = ("values", "half_values")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    HALF_VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    half_values: bytes
    def __init__(self, values: _Optional[_Iterable[float]] = ..., half_values: _Optional[bytes] = ...) -> None: ...

class LatentOptions(_message.Message):
    __slots__ = ("model", "model_version", "service_class")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    service_class: ServiceClass
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., service_class: _Optional[_Union[ServiceClass, str]] = ...) -> None: ...

class PictureOptions(_message.Message):
    __slots__ = ("container", "sample_type", "jpeg_quality")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TYPE_FIELD_NUMBER: _ClassVar[int]
    JPEG_QUALITY_FIELD_NUMBER: _ClassVar[int]
    container: Container
    sample_type: SampleType
    jpeg_quality: int
    def __init__(self, container: _Optional[_Union[Container, str]] = ..., sample_type: _Optional[_Union[SampleType, str]] = ..., jpeg_quality: _Optional[int] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("image", "options", "half_precision")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    HALF_PRECISION_FIELD_NUMBER: _ClassVar[int]
    image: Image
    options: LatentOptions
    half_precision: bool
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., options: _Optional[_Union[LatentOptions, _Mapping]] = ..., half_precision: bool = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("latent", "prior_distance", "prior_distance_limit", "compression_nats", "timings", "model")
    LATENT_FIELD_NUMBER: _ClassVar[int]
    PRIOR_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_DISTANCE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_NATS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    latent: Latent
    prior_distance: float
    prior_distance_limit: float
    compression_nats: float
    timings: Timings
    model: ModelReference
    def __init__(self, latent: _Optional[_Union[Latent, _Mapping]] = ..., prior_distance: _Optional[float] = ..., prior_distance_limit: _Optional[float] = ..., compression_nats: _Optional[float] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("latent", "options", "picture", "allow_out_of_distribution")
    LATENT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_OUT_OF_DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    latent: Latent
    options: LatentOptions
    picture: PictureOptions
    allow_out_of_distribution: bool
    def __init__(self, latent: _Optional[_Union[Latent, _Mapping]] = ..., options: _Optional[_Union[LatentOptions, _Mapping]] = ..., picture: _Optional[_Union[PictureOptions, _Mapping]] = ..., allow_out_of_distribution: bool = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("image", "timings", "model")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    image: Image
    timings: Timings
    model: ModelReference
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("image_count", "seed", "temperature", "options", "picture")
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    image_count: int
    seed: int
    temperature: float
    options: LatentOptions
    picture: PictureOptions
    def __init__(self, image_count: _Optional[int] = ..., seed: _Optional[int] = ..., temperature: _Optional[float] = ..., options: _Optional[_Union[LatentOptions, _Mapping]] = ..., picture: _Optional[_Union[PictureOptions, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("images", "latents", "seed", "timings", "model")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    latents: _containers.RepeatedCompositeFieldContainer[Latent]
    seed: int
    timings: Timings
    model: ModelReference
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., latents: _Optional[_Iterable[_Union[Latent, _Mapping]]] = ..., seed: _Optional[int] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ...) -> None: ...

class InterpolationEnd(_message.Message):
    __slots__ = ("image", "latent")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    image: Image
    latent: Latent
    def __init__(self, image: _Optional[_Union[Image, _Mapping]] = ..., latent: _Optional[_Union[Latent, _Mapping]] = ...) -> None: ...

class InterpolateRequest(_message.Message):
    __slots__ = ("start", "stop", "step_count", "options", "picture", "allow_out_of_distribution")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_OUT_OF_DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    start: InterpolationEnd
    stop: InterpolationEnd
    step_count: int
    options: LatentOptions
    picture: PictureOptions
    allow_out_of_distribution: bool
    def __init__(self, start: _Optional[_Union[InterpolationEnd, _Mapping]] = ..., stop: _Optional[_Union[InterpolationEnd, _Mapping]] = ..., step_count: _Optional[int] = ..., options: _Optional[_Union[LatentOptions, _Mapping]] = ..., picture: _Optional[_Union[PictureOptions, _Mapping]] = ..., allow_out_of_distribution: bool = ...) -> None: ...

class InterpolateResponse(_message.Message):
    __slots__ = ("images", "latents", "spherical", "timings", "model")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SPHERICAL_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    latents: _containers.RepeatedCompositeFieldContainer[Latent]
    spherical: bool
    timings: Timings
    model: ModelReference
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., latents: _Optional[_Iterable[_Union[Latent, _Mapping]]] = ..., spherical: bool = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., model: _Optional[_Union[ModelReference, _Mapping]] = ...) -> None: ...
