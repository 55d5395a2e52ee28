"""Bytes from elsewhere, by checksum or commit."""
