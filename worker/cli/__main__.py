"""`python -m worker.cli`: the same as `fairlane`."""

from worker.cli.main import main

main()
