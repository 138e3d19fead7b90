"""`python -m nas` is the command."""

from nas.cli import main

main()
