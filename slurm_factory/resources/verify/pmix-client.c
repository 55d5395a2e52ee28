/* Meets the other tasks of its job in a fence (PMIx 4.1 standard, 5.1 and 8.3), and prints its rank.
 * Its own declarations: a package without Open MPI has no headers of PMIx. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

struct proc {
    char nspace[256];
    unsigned int rank;
};

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : NULL;
    struct proc self;
    int (*init)(struct proc *, void *, size_t);
    int (*fence)(const struct proc *, size_t, void *, size_t);
    int (*finalize)(void *, size_t);

    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    init = (int (*)(struct proc *, void *, size_t)) dlsym(library, "PMIx_Init");
    fence = (int (*)(const struct proc *, size_t, void *, size_t)) dlsym(library, "PMIx_Fence");
    finalize = (int (*)(void *, size_t)) dlsym(library, "PMIx_Finalize");
    if (!init || !fence || !finalize || init(&self, NULL, 0) || fence(NULL, 0, NULL, 0))
        return 1;
    printf("rank %u\n", self.rank);
    return finalize(NULL, 0);
}
