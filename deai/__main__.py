"""`python -m deai` is the `deai` command."""

from deai.cli.main import main

main()
