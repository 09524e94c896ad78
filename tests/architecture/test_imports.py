"""Who may import what: the contracts of pyproject.toml, and the libraries that each belong to a few modules."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# A name covers the module and everything below it.
_USERS_OF = {
    "onnxruntime": ("service.engine", "training"),
    "grpc": (
        "denoised._aio_traffic",
        "denoised._calls",
        "denoised._connection",
        "denoised._failures",
        "denoised._scope",
        "denoised._traffic",
        "denoised.aio",
        "denoised.client",
        "denoised.errors",
        "denoised.load.wire",
        "service.app",
        "service.clients",
        "service.deadlines",
        "service.demo",
        "service.latent.methods",
        "service.rpc",
        "service.security",
        "service.status",
        "service.tls",
    ),
    "torch": ("training",),
    "onnx": ("training",),
    "onnxscript": ("training",),
    "aiohttp": ("service",),
    "pydantic": ("service", "training"),
    "imagecodecs": ("service.codec", "training.data.raster_file"),
    "isal": ("service.codec",),
    "simplejpeg": ("service.codec",),
    "cv2": ("training.data.features", "training.evaluation.baselines"),
    "jinja2": ("training.evaluation.report",),
    "matplotlib": ("training.noise.report", "training.run.lr_finder"),
    # Whoever installs the client alone has none; pages and comparisons say so.
    "PIL": (
        "denoised._noise_effects",
        "denoised._images",
        "denoised._pictures",
        "denoised._pillow",
        "denoised.aio",
        "denoised.cli.compare",
        "denoised.client",
        "denoised.load.answers",
        "denoised.load.pictures",
        "denoised.report",
        "service.demo",
        "training",
    ),
    "skimage": ("service.demo", "training.evaluation.baselines"),
    "sklearn": ("training.data.digits", "training.evaluation.probe", "training.export.code_density"),
    "tifffile": ("training.data.tiff_file",),
}
# These come in several distributions' top-level packages.
_FAMILY = {"grpc_status": "grpc", "grpc_health": "grpc", "grpc_reflection": "grpc", "pydantic_settings": "pydantic"}

_PURE = (
    "denoised._blocks",
    "denoised._connecting",
    "denoised._energy",
    "denoised._noise_effects",
    "denoised._noise_level",
    "denoised._noise_sources",
    "denoised._noise_stage",
    "denoised._residual",
    "denoised._strict",
    "denoised._sure",
    "denoised.calibration",
    "denoised.contract",
    "denoised.load.arrivals",
    "denoised.load.gates",
    "denoised.load.histogram",
    "denoised.load.kinds",
    "denoised.load.plots",
    "denoised.load.workload",
    "denoised.noise",
    "denoised.quality",
    "denoised.seal",
    "denoised.statistics",
    "denoised.verdicts",
    "service.backlog",
    "service.cost",
    "service.engine.options",
    "service.errors",
    "service.fairness",
    "service.profile.fit",
    "service.scheduler",
    "service.tiling",
    "service.types",
    "training.noise.blocks",
    "training.noise.line",
    "training.run.stopping",
)
# JPEG's and resizing's own arithmetic is Pillow's; whoever uses neither stage needs no Pillow.
_PILLOW_WHEN_CALLED = "denoised._noise_effects"
_IMPURE_STANDARD_MODULES = {"asyncio", "logging", "os", "random", "socket", "subprocess", "threading", "time"}
_READERS_OF_THE_ENVIRONMENT = {
    "service.settings",
    "service.demo.process",  # hands its own on to the service that it starts
    "training.run.distributed",  # torchrun tells each process its rank so
    "training.run.doctor",  # says what OMP_NUM_THREADS was set to
    "training.run.machine",  # cuBLAS wants to be told before its first call
}
_ENVIRONMENT_NAMES = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def _covers(names: tuple[str, ...], module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _imports(module: ast.AST) -> Iterator[str]:
    """Full names of what it imports, wherever in the file."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _library(imported: str) -> str:
    top = imported.partition(".")[0]
    return _FAMILY.get(top, top)


def test_the_contracts_of_pyproject_hold(root: Path) -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    if not lint_imports.exists():
        pytest.skip("import-linter is not installed in this environment; make test-fast installs it")
    command = [str(lint_imports), "--no-cache", "--no-logo"]
    environment = {"PYTHONPATH": f"{root}:{root / 'proto'}", "PATH": "", "COLUMNS": "200"}

    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("library", sorted(_USERS_OF))
def test_a_library_is_imported_only_where_it_belongs(library: str, modules: Mapping[str, ast.Module]) -> None:
    strangers = [
        name
        for name, module in modules.items()
        if library in map(_library, _imports(module)) and not _covers(_USERS_OF[library], name)
    ]

    assert not strangers, f"{library} belongs to {', '.join(_USERS_OF[library])}"


@pytest.mark.parametrize("name", _PURE)
def test_what_decides_and_what_all_sides_agree_on_is_pure(name: str, modules: Mapping[str, ast.Module]) -> None:
    allowed = sys.stdlib_module_names - _IMPURE_STANDARD_MODULES | {"numpy"}
    if name == _PILLOW_WHEN_CALLED:
        allowed |= {"PIL"}

    foreign = [used for used in _imports(modules[name]) if used.partition(".")[0] not in allowed]

    assert not [used for used in foreign if not _covers(_PURE, used)]


def test_noise_needs_pillow_only_when_a_stage_calls_it(modules: Mapping[str, ast.Module]) -> None:
    statements = [node for node in modules[_PILLOW_WHEN_CALLED].body if isinstance(node, ast.Import | ast.ImportFrom)]

    assert statements
    assert not [used for node in statements for used in _imports(node) if _library(used) == "PIL"]


def test_the_client_imports_what_it_needs_and_no_more(root: Path) -> None:
    """What an import costs is what it imports: gRPC, NumPy, protobuf, and a few light modules of Python's own."""
    program = (
        "import sys, grpc, grpc.aio, numpy; before = set(sys.modules); import denoised; "
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(root / "proto"), "PATH": ""}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)

    added = done.stdout.split()
    tops = {name.partition(".")[0] for name in added}
    assert "denoised" in tops
    assert tops <= {"denoised", "google", "grpc", "numpy"} | sys.stdlib_module_names
    for heavy in (
        "PIL",
        "click",
        "http",
        "urllib",
        "email",
        "ssl",
        "denoised.cli",
        "denoised.noise",
        "denoised.report",
    ):
        assert heavy not in added, heavy


def test_the_environment_is_read_in_few_places(modules: Mapping[str, ast.Module]) -> None:
    readers = set()
    for name, module in modules.items():
        attributes = {
            node.attr
            for node in ast.walk(module)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        }
        names = {used.removeprefix("os.") for used in _imports(module) if used.startswith("os.")}
        if _ENVIRONMENT_NAMES & (attributes | names):
            readers.add(name)

    assert readers == _READERS_OF_THE_ENVIRONMENT
