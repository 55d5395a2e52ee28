/* Where the kernel enters a program: main and its constructors go to __libc_start_main (System V
   ABI of x86_64, "Process Initialization"; and of AArch64). */

#if defined(__x86_64__)

#ifdef __CET__
#include <cet.h>
#else
#define _CET_ENDBR
#endif

    .text
    .globl _start
    .type _start, @function
_start:
    .cfi_startproc
    .cfi_undefined rip
    _CET_ENDBR
    xorl %ebp, %ebp
    movq %rdx, %r9                          /* To be called at exit. */
    popq %rsi                               /* Number of arguments. */
    movq %rsp, %rdx                         /* Arguments. */
    andq $~15, %rsp
    pushq %rax                              /* Keeps the stack aligned. */
    pushq %rsp                              /* End of the stack. */
    leaq __libc_csu_fini(%rip), %r8
    leaq __libc_csu_init(%rip), %rcx
    movq main@GOTPCREL(%rip), %rdi
    call *__libc_start_main@GOTPCREL(%rip)
    hlt
    .cfi_endproc
    .size _start, . - _start

#elif defined(__aarch64__)

    .text
    .globl _start
    .type _start, %function
_start:
    .cfi_startproc
    .cfi_undefined x30
    hint 34                                 /* bti c */
    mov x29, #0
    mov x30, #0
    mov x5, x0                              /* To be called at exit. */
    ldr x1, [sp]                            /* Number of arguments. */
    add x2, sp, #8                          /* Arguments. */
    mov x6, sp                              /* End of the stack. */
    adrp x0, :got:main
    ldr x0, [x0, #:got_lo12:main]
    adrp x3, __libc_csu_init
    add x3, x3, #:lo12:__libc_csu_init
    adrp x4, __libc_csu_fini
    add x4, x4, #:lo12:__libc_csu_fini
    bl __libc_start_main
    bl abort
    .cfi_endproc
    .size _start, . - _start

    /* Branch targets and return addresses are protected, as in compiled code. */
    .pushsection .note.gnu.property, "a", %note
    .p2align 3
    .word 4, 16, 5
    .asciz "GNU"
    .word 0xc0000000, 4, 3, 0
    .popsection

#endif

    /* Tells the C library which standard streams the program uses (csu/init.c). */
    .section .rodata
    .globl _IO_stdin_used
    .type _IO_stdin_used, %object
    .size _IO_stdin_used, 4
    .p2align 2
_IO_stdin_used:
    .long 0x20001

    /* Needs Linux 3.2.0 or newer, as every C library from 2.26 (elf/dl-load.c). */
    .section .note.ABI-tag, "a", %note
    .p2align 2
    .long 4, 16, 1
    .asciz "GNU"
    .long 0, 3, 2, 0

    .section .note.GNU-stack, "", %progbits
