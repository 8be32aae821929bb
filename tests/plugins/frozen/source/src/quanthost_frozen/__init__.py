"""A backend as it was written for the plugin API 1.0."""
