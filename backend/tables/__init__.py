"""What the pages draw and the command line prints: a study in, a table out.

Every table has one maker here, so that a page, `figures` and a script of one's own cannot disagree. It knows no widget,
no option of a command and no chart. Nothing is kept between calls: who calls often keeps what it got.
"""
