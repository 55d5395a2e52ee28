"""Where commands run: an LXD instance, or this machine."""
