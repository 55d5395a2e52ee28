"""Progress on the screen, log files, and the way to stdout."""
