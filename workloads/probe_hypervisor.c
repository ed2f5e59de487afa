/* What the processor says of the hypervisor that it runs under. */
#include "probe.h"

#include <cpuid.h>
#include <stdio.h>

/* Intel SDM volume 2, CPUID: bit 31 of ECX is 0 on every processor, 1 under a hypervisor that says
 * so. Signatures: leaf 0x40000000, and further ones in steps of 0x100 where a hypervisor also
 * plays another one (the kernel's arch/x86/include/asm/processor.h, hypervisor_cpuid_base). */
#define FIRST_LEAF 0x40000000u
#define LAST_LEAF 0x40010000u
#define STEP 0x100u

static void print_signature(const uint32_t *registers)
{
    const unsigned char *bytes = (const unsigned char *)registers;
    for (int i = 0; i < 12; i++) {
        unsigned char byte = bytes[i];
        if (byte >= ' ' && byte < 127 && byte != '"' && byte != '\\')
            putchar(byte);
        else
            printf("\\u%04x", byte);
    }
}

static int run_hypervisor(char **arguments)
{
    (void)arguments;
    uint32_t a, b, c, d;
    __cpuid(1, a, b, c, d);
    int shown = (int)(c >> 31);
    printf("{\"bit\": %s, \"leaves\": [", shown ? "true" : "false");
    int count = 0;
    for (uint32_t leaf = FIRST_LEAF; shown && leaf < LAST_LEAF; leaf += STEP) {
        uint32_t text[3];
        __cpuid(leaf, a, text[0], text[1], text[2]);
        /* A leaf that does not exist answers as the highest basic one, which is far below. KVM
         * of old says 0 for its highest leaf. */
        if ((a != 0 && (a < leaf || a >= leaf + STEP)) || text[0] == 0)
            continue;
        printf("%s[%u, \"", count++ ? ", " : "", leaf);
        print_signature(text);
        putchar('"');
        putchar(']');
    }
    puts("]}");
    return 0;
}

const struct command HYPERVISOR_COMMANDS[] = {
    {"hypervisor", 0, 0, run_hypervisor, ": CPUID's hypervisor bit and signatures"},
    {NULL, 0, 0, NULL, NULL},
};
