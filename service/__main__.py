"""``python -m service``: serves until SIGTERM or SIGINT, and exits 0 when nothing was lost; or profiles the models.

Both read the settings from the environment.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from service.engine import ModelRefused
from service.settings import Settings, SettingsError, describe_settings, load_settings


def main() -> int:
    """Exit codes: 0 done as asked, 1 could not start or not measure, 2 wrong settings or arguments, 130 interrupted."""
    arguments = _parser().parse_args()
    if arguments.command == "token":
        return _token(arguments.name)
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.print_config or arguments.print_limits or arguments.print_errors or arguments.print_metrics:
        print(_page(arguments, settings), end="")
        return 0
    if arguments.command == "profile":
        return _profile(settings, arguments.model, arguments.repeats, arguments.to)
    return _serve(settings)


def _page(arguments: argparse.Namespace, settings: Settings) -> str:
    """What was asked to be printed."""
    if arguments.print_config:
        return describe_settings(settings) + "\n"
    if arguments.print_limits:
        from service.limits import limits_page

        return limits_page(settings)
    if arguments.print_errors:
        from service.error_catalogue import error_page

        return error_page()
    from service.metrics_page import metrics_page

    return metrics_page()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves denoised over gRPC, metrics and health over HTTP. Settings are environment variables.",
        epilog=(
            "examples:\n"
            "  DENOISED_GRPC_PORT=50051 DENOISED_MODELS_DIR=runs/models python -m service\n"
            "  DENOISED_LANE_COUNT=2 python -m service profile --to profile.json"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--print-config", action="store_true", help="print every setting with its value, and exit")
    parser.add_argument(
        "--print-limits",
        action="store_true",
        help="print the limits and what clients see of them, in Markdown, and exit",
    )
    parser.add_argument(
        "--print-errors", action="store_true", help="print every reason with cause and remedy, in Markdown, and exit"
    )
    parser.add_argument(
        "--print-metrics", action="store_true", help="print what every metric means, in Markdown, and exit"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", description="Without one of these the service runs."
    )
    profile = commands.add_parser(
        "profile",
        help="measure what every model costs on this machine; the service may start from the file",
        description=(
            "Runs every unit shape of every model in the store on the lanes as the settings have them: all lanes at "
            "once with batches of 1, 2, 4 and so on while that helps, then one unit on all cores. Prints a table. "
            "Run it where the service will run, with the same settings and nothing beside it; a model of 169 shapes "
            "takes a minute or two on two cores. Progress goes to stderr."
        ),
        epilog="example: python -m service profile --model 'gaussian-*' --to profile.json",
    )
    profile.add_argument(
        "--model", default="*", metavar="NAME", help="only models whose name matches, as a shell would match it"
    )
    profile.add_argument(
        "--repeats", type=_positive, default=5, metavar="N", help="runs of each batch on each lane (default: 5)"
    )
    profile.add_argument(
        "--to", type=Path, metavar="FILE", help="also write it as JSON; DENOISED_PROFILE_FILE may name the file"
    )
    token = commands.add_parser(
        "token",
        help="make a token for a caller, and the lines that let it in",
        description=(
            "Prints a new token, which is shown once and kept nowhere, to stderr, and to stdout what the file of "
            "callers needs to know of it. Add these lines to the file that DENOISED_CALLERS_FILE names."
        ),
        epilog="example: python -m service token night-shift >> callers.toml",
    )
    token.add_argument("name", metavar="NAME", help="lower-case letters, digits and hyphens")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _token(name: str) -> int:
    from service.identities import new_token

    try:
        token = new_token(name)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f'[callers.{name}]\ntoken_sha256 = ["{token.sha256}"]')
    print(token.token, file=sys.stderr)
    return 0


def _serve(settings: Settings) -> int:
    import uvloop

    from service.app import StartFailed, serve
    from service.identities import CallersRefused
    from service.logs import configure_logs
    from service.memory import keep_freed_blocks
    from service.profile import ProfileRefused
    from service.tls import CertificateRefused

    keep_freed_blocks()
    configure_logs(settings)

    async def run() -> None:
        stop_asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop_asked.set)
        await serve(settings, shutdown=stop_asked)

    try:
        uvloop.run(run())
    except (CallersRefused, CertificateRefused, ModelRefused, ProfileRefused, StartFailed) as error:
        print(f"the service could not start: {error}", file=sys.stderr)
        return 1
    return 0


def _profile(settings: Settings, name_pattern: str, repeat_count: int, path: Path | None) -> int:
    from tqdm import tqdm

    from service.engine_settings import engine_options_of
    from service.profile import ProfileRefused, profile_models, profile_table, write_profile
    from service.registry import load_models

    options = engine_options_of(settings)
    try:
        models = list(
            load_models(settings.models_dir, options, precision=settings.precision, name_pattern=name_pattern)
        )
        with tqdm(unit="shape", file=sys.stderr) as bar:

            def on_progress(what: str, done_count: int, total_count: int) -> None:
                bar.total = total_count
                bar.set_description(what, refresh=False)
                bar.update(done_count - bar.n)

            profile = profile_models(models, options, repeat_count=repeat_count, on_progress=on_progress)
            bar.update((bar.total or 0) - bar.n)
        print(profile_table(profile))
        if path is not None:
            write_profile(profile, path)
    except (ModelRefused, ProfileRefused) as error:
        print(f"nothing was measured: {error}" if isinstance(error, ModelRefused) else error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
