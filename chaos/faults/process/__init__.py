"""Faults of processes: killed, or stopped for a while."""
