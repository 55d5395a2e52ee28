"""PMIx that finds itself wherever its tree lies."""

from spack.package import patch
from spack_repo.builtin.packages.pmix.package import Pmix as BuiltinPmix


class Pmix(BuiltinPmix):
    """The builtin recipe, with components and messages found from where the library lies.

    Slurm, Open MPI and their users' tasks load the same libpmix, each with an environment of its
    own: only the library itself can know the way for all of them.
    """

    patch("pmix-relocatable.patch", when="@4.2.2:5")
