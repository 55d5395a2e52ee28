"""Stores of packages: file, http, S3 and OCI registries; publishing to them, fetching from them."""
