"""LXD on this machine: setup installs and configures it, doctor finds problems."""
