"""New backends from templates: what is asked for is checked, rendered, and written whole or not at all."""
