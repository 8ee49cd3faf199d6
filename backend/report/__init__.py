"""A study as one file to hand on: story, figures, tables, settings, methods and limits, made without a browser."""
