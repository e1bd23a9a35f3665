"""The command line: one file per verb; results on stdout, everything else on stderr."""
