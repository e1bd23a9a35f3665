"""Groups of required figures; see `benchmarks/required_figures.py`."""
