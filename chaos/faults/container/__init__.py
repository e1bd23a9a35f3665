"""Faults of the container that a store's server lives in; only the backends docker and compose have one."""
