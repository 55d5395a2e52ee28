"""Many builds: cells of a matrix, and the pool that runs them."""
