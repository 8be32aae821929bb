"""Generates the package of a new backend from templates: plan, render, write."""
