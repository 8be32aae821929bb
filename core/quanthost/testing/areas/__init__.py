"""Derives the cases of each area of the suite and judges them."""
