"""What a user declares: the experiment, its schedule and probes, how its file is read, checked and resolved."""
