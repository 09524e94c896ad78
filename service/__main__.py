"""``python -m service``: reads the settings, serves until SIGTERM or SIGINT, exits 0 when nothing was lost."""

import argparse
import asyncio
import signal
import sys

import uvloop

from service.app import StartFailed, serve
from service.engine import ModelRefused
from service.limits import limits_page
from service.logs import configure_logs
from service.settings import SettingsError, describe_settings, load_settings


def main() -> int:
    """Exit codes: 0 stopped as asked, 1 could not start, 2 wrong settings."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves denoised over gRPC, metrics and health over HTTP. Settings are environment variables.",
        epilog="example: DENOISED_GRPC_PORT=50051 DENOISED_MODELS_DIR=runs/models python -m service",
    )
    parser.add_argument("--print-config", action="store_true", help="print every setting with its value, and exit")
    parser.add_argument(
        "--print-limits",
        action="store_true",
        help="print the limits and what clients see of them, in Markdown, and exit",
    )
    arguments = parser.parse_args()
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.print_config:
        print(describe_settings(settings))
        return 0
    if arguments.print_limits:
        print(limits_page(settings), end="")
        return 0
    configure_logs(settings)

    async def run() -> None:
        stop_asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop_asked.set)
        await serve(settings, shutdown=stop_asked)

    try:
        uvloop.run(run())
    except (ModelRefused, StartFailed) as error:
        print(f"the service could not start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
