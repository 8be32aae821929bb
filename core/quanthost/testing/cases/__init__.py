"""Samples, the small modules that the suite runs, and combinations of them."""
