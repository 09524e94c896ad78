"""``denoised completion``: the script that lets a shell complete commands, options and files."""

import click
from click.shell_completion import get_completion_class

from denoised.cli.exits import Failed

_VARIABLE = "_DENOISED_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes the shell complete this command line.

    \b
    Examples, for now and, in the shell's own start file, for ever:
      bash  eval "$(denoised completion bash)"
      zsh   eval "$(denoised completion zsh)"
      fish  denoised completion fish | source
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        click.echo(kind(context.find_root().command, {}, "denoised", _VARIABLE).source())
    except RuntimeError as error:
        raise Failed(str(error)) from error  # bash of before 4.4 can't be taught
