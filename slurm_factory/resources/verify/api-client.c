#include <errno.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>

int main(void)
{
    node_info_msg_t *nodes = NULL;
    long version = slurm_api_version();

    slurm_init(NULL);
    if (slurm_load_node(0, &nodes, SHOW_ALL)) {
        fprintf(stderr, "%s\n", slurm_strerror(errno));
        return 1;
    }
    printf("%u nodes, version %ld.%ld.%ld of the API\n", nodes->record_count,
           SLURM_VERSION_MAJOR(version), SLURM_VERSION_MINOR(version), SLURM_VERSION_MICRO(version));
    return 0;
}
