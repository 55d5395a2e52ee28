"""One exception class per exit code, and nothing else.

Every error that a user can cause or meet is raised as one of these with three parts: what failed
(`brief`), why (`details`) and what to do about it (`resolution`). `main` alone turns them into
text and exit codes. The shape is that of craft-providers' `ProviderError`.
"""

from typing import ClassVar


class SlurmFactoryError(Exception):
    """A failure the user should read.

    Args:
        brief: What failed, one line.
        details: Why it failed, one line; longer evidence belongs in the log file.
        resolution: What the user can do, one line, with the exact command where there is one.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "the build failed"
    elsewhere: ClassVar[bool] = False
    """Whether the same command may succeed on another machine, without any change."""

    def __init__(self, brief: str, *, details: str = "", resolution: str = "") -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.resolution = resolution

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.details, self.resolution) if part)


class BuildError(SlurmFactoryError):
    """Configure, make or a step of the recipe failed."""


class ConfigurationError(SlurmFactoryError):
    """The command line, a setting or the settings file is wrong."""

    exit_code = 2
    meaning = "wrong usage or configuration"


class LXDError(SlurmFactoryError):
    """LXD, or this machine, cannot be used."""

    exit_code = 3
    meaning = "LXD or this machine cannot be used"


class DownloadError(SlurmFactoryError):
    """A source could not be fetched, or has the wrong content."""

    exit_code = 4
    meaning = "a download failed, or its content is wrong"


class SpackError(SlurmFactoryError):
    """Spack failed."""

    exit_code = 5
    meaning = "Spack failed"


class VerificationError(SlurmFactoryError):
    """The tree could not be made relocatable, or failed the audit or the live check."""

    exit_code = 6
    meaning = "relocation, audit or verification failed"


class OutputError(SlurmFactoryError):
    """A result could not be written."""

    exit_code = 7
    meaning = "the output could not be written"


class InterruptedBuildError(SlurmFactoryError):
    """Ctrl-C or SIGTERM."""

    exit_code = 130
    meaning = "interrupted"
