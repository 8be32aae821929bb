"""Samples, the small modules that the suite runs, and what is built of them."""
