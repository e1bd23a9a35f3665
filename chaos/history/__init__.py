"""What happened, in order: operations, their steps in each store, and faults, as append-only JSON lines."""
