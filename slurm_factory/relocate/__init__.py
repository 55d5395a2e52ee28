"""A tree of ELF files that runs from wherever it is unpacked."""
