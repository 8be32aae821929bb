"""Its module raises an error when it is imported."""

raise RuntimeError("the kernel library is too old")
