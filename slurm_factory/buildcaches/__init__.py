"""Build caches of Spack elsewhere: taken from and published to by this machine, by no instance."""
