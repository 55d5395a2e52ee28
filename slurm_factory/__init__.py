"""slurm-factory: one command turns a Slurm release into a relocatable package."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """The version, when it is asked for: to read it takes longer than Python's own start."""
        if name != "__version__":
            raise AttributeError(name)
        from importlib.metadata import version  # noqa: PLC0415

        return version("slurm-factory")
