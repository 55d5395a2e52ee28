"""What will be built, decided before a machine is touched."""
