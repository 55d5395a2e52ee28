"""LXD on this machine: setup brings it to where it can build, doctor tells what stops it."""
