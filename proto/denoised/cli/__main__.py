"""``python -m denoised.cli``: the command line where the ``denoised`` script is not on the path."""

from denoised.cli import main

main(prog_name="denoised")
