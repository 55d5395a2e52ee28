"""Building a package again, and comparing what comes out with it, byte by byte."""
