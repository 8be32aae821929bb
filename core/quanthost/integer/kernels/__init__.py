"""Operators on integer tensors, as modules that compute in several forms with the same numbers."""
