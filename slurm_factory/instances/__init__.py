"""Places to run commands: an LXD instance, or this machine."""
