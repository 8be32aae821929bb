"""Operators on integers: what a q/dq graph becomes when every number in it is exact."""
