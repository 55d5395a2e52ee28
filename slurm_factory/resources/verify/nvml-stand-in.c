/* A stand-in for libnvidia-ml.so.1 with eight devices, as far as Slurm's gpu/nvml asks.
 * Prototypes: docs.nvidia.com/deploy/nvml-api; types by their size only. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICES 8
#define NOT_SUPPORTED 3
#define UNSUPPORTED(name) int name(void) { return NOT_SUPPORTED; }

struct pci {
    char legacy[16];
    unsigned int domain, bus, device, id, subsystem;
    char name[32];
};

static char handles[DEVICES];

static unsigned int index_of(void *device) { return (unsigned int) ((char *) device - handles); }

static int answer(char *text, unsigned int length, const char *value)
{
    snprintf(text, length, "%s", value);
    return 0;
}

const char *nvmlErrorString(int code) { return code ? "not supported by the stand-in" : "success"; }
int nvmlInit_v2(void) { return 0; }
int nvmlInit(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { return answer(text, length, "1.0"); }
int nvmlSystemGetNVMLVersion(char *text, unsigned int length) { return answer(text, length, "12.1.0"); }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = DEVICES; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
    if (index >= DEVICES)
        return 2;
    *device = handles + index;
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned int length)
{
    (void) device;
    return answer(text, length, "Stand-in");
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned int length)
{
    char uuid[64];

    snprintf(uuid, sizeof(uuid), "GPU-00000000-0000-0000-0000-%012u", index_of(device));
    return answer(text, length, uuid);
}
int nvmlDeviceGetPciInfo_v3(void *device, struct pci *info)
{
    memset(info, 0, sizeof(*info));
    info->bus = index_of(device) + 1;
    snprintf(info->legacy, sizeof(info->legacy), "0000:%02X:00.0", info->bus);
    snprintf(info->name, sizeof(info->name), "00000000:%02X:00.0", info->bus);
    return 0;
}
int nvmlDeviceGetMinorNumber(void *device, unsigned int *number)
{
    *number = index_of(device);
    return 0;
}
int nvmlDeviceGetCpuAffinity(void *device, unsigned int size, unsigned long *set)
{
    long cpus = sysconf(_SC_NPROCESSORS_CONF);

    (void) device;
    memset(set, 0, size * sizeof(*set));
    for (long cpu = 0; cpu < cpus && cpu < (long) (size * 8 * sizeof(*set)); cpu++)
        set[cpu / (8 * sizeof(*set))] |= 1UL << (cpu % (8 * sizeof(*set)));
    return 0;
}
UNSUPPORTED(nvmlDeviceGetApplicationsClock)
UNSUPPORTED(nvmlDeviceGetAttributes_v2)
UNSUPPORTED(nvmlDeviceGetComputeInstanceId)
UNSUPPORTED(nvmlDeviceGetComputeRunningProcesses_v3)
UNSUPPORTED(nvmlDeviceGetGpuInstanceId)
UNSUPPORTED(nvmlDeviceGetGraphicsRunningProcesses_v3)
UNSUPPORTED(nvmlDeviceGetMaxMigDeviceCount)
UNSUPPORTED(nvmlDeviceGetMigDeviceHandleByIndex)
UNSUPPORTED(nvmlDeviceGetMigMode)
UNSUPPORTED(nvmlDeviceGetNvLinkRemotePciInfo_v2)
UNSUPPORTED(nvmlDeviceGetNvLinkState)
UNSUPPORTED(nvmlDeviceGetProcessUtilization)
UNSUPPORTED(nvmlDeviceGetSupportedGraphicsClocks)
UNSUPPORTED(nvmlDeviceGetSupportedMemoryClocks)
UNSUPPORTED(nvmlDeviceResetApplicationsClocks)
UNSUPPORTED(nvmlDeviceSetApplicationsClocks)
