"""Operators without a kernel of the runtime, written with operators that have one."""
