/* Runs the constructors of a program: C libraries before 2.34 get it from the program's start file
   (System V ABI, "Initialization and Termination Functions"). */

#include <stddef.h>

#define HIDDEN __attribute__((visibility("hidden")))

typedef void (*Constructor)(int, char **, char **);

extern Constructor __init_array_start[] HIDDEN, __init_array_end[] HIDDEN;
extern void _init(void);

HIDDEN void __libc_csu_init(int count, char **arguments, char **environment)
{
    Constructor *next;

    _init();
    for (next = __init_array_start; next < __init_array_end; next++)
        (*next)(count, arguments, environment);
}

/* The loader runs the destructors, as it has run the functions of DT_PREINIT_ARRAY. */
HIDDEN void __libc_csu_fini(void)
{
}
