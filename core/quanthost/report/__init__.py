"""Reports for people: decisions, programs and comparisons as tables that fit a terminal and a pipe."""
