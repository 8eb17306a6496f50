"""The command line: `fairlane …`, one file a command; each has --json and a --help with an example."""
