"""What a run, a benchmark or an application measures: times, errors, resources; and how two measurements compare."""
