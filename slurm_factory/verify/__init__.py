"""Proof that a package works: an audit of its files, and a cluster that runs from it."""
