"""PMIx that works at any path."""

import hashlib
import inspect
from pathlib import Path

from spack.package import patch
from spack_repo.builtin.packages.pmix.package import Pmix as BuiltinPmix


class Pmix(BuiltinPmix):
    """The builtin recipe, with components and messages found from where the library lies.

    Slurm, Open MPI and their users' tasks load the same libpmix, each with an environment of its
    own: only the library itself can know the way for all of them.
    """

    patch("pmix-relocatable.patch", when="@4.2.2:5")

    def content_hash(self, content=None):
        """As Spack's, and with the builtin recipe, which does most of the work."""
        builtin = Path(inspect.getfile(BuiltinPmix)).read_bytes()
        text = super().content_hash(content) + super().content_hash(builtin)
        return hashlib.sha256(text.encode()).hexdigest()
