"""slurm-factory: one command turns a Slurm release into a relocatable package."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return the version on demand: reading it takes longer than starting Python."""
        if name != "__version__":
            raise AttributeError(name)
        from importlib.metadata import version  # noqa: PLC0415

        return version("slurm-factory")
