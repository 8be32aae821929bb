"""Takes samples through the stages and judges the results."""
