"""Pages of one HTML file that needs nothing else: plots, tables, light and dark."""
