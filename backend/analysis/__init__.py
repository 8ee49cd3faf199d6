"""Pure maths on arrays and polars tables: rates, contrasts, probes, directions. Never a model, a file or a page."""
