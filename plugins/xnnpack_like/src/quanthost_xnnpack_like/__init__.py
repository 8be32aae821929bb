"""The backend ``xnnpack_like``: its support table, graph rewrites and lowering."""
