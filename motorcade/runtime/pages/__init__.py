"""The one way to write a page with plots: a single HTML file that needs nothing else.

In: a folder of templates that extend `base.html.j2`, what they show, and plots as plain values.
Out: HTML, light or dark as its reader's screen is, and the file. Never: what a page says.
"""
