"""From a built tree to published files."""
