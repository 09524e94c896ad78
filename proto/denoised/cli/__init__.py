"""The command line ``denoised``: a module for each command or few alike, imported when asked for.

Results and summaries go to standard output, progress and complaints to standard error. Exit codes, of every command:
0 all well, 1 something failed, 2 the command was wrong, 3 no server answers.

A command is a function in a module here and a line in ``_COMMANDS``. How the server is reached is ``connection``'s, how
a command fails is ``exits``'s.
"""

from importlib import import_module
from typing import Final

import click

# In the order of the help.
_COMMANDS: Final = {
    "clean": "denoised.cli.clean",
    "inspect": "denoised.cli.inspect",
    "encode": "denoised.cli.latents",
    "decode": "denoised.cli.latents",
    "generate": "denoised.cli.latents",
    "interpolate": "denoised.cli.latents",
    "compare": "denoised.cli.compare",
    "models": "denoised.cli.models",
    "doctor": "denoised.cli.doctor",
    "load": "denoised.load.command",
    "completion": "denoised.cli.completion",
}


class _Commands(click.Group):
    """Imports a command's module when the command is asked for, so that none waits for the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- likewise
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Denoise images with a denoised server.

    \b
    Try:
      denoised clean noisy.png -o clean.png
      denoised clean photos/ -o cleaned/
      denoised inspect noisy.png
      denoised doctor
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
