"""The plan of a build, made before any machine is used."""
