"""Make a tree of ELF files work at any path."""
