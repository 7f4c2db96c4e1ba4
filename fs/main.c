/*
 * atdatafs: a team's atdata datasets as files.
 */
#include <stdio.h>
#include <string.h>

#include "commands/commands.h"
#include "mountpoint.h"
#include "options.h"
#include "session.h"

int main(int argc, char **argv)
{
    struct options options;
    struct atd_error why = ATD_ERROR_INIT;
    const struct command *command = argc > 1 ? command_find(argv[1]) : NULL;
    int exit_code = ATD_EXIT_OK;

    if (command)
        return command->run(argc - 1, argv + 1);
    if (options_parse(argc, argv, &options, &why) != 0) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
        exit_code = ATD_EXIT_USAGE;
    } else if (options.show_help) {
        options_print_help("atdatafs");
        (void)puts("\ncommands, which need no mount (atdatafs COMMAND --help):");
        command_print_all();
    } else if (options.show_version) {
        (void)printf("atdatafs %s, libfuse %s\n", ATD_VERSION, fuse_pkgversion());
    } else if (mountpoint_prepare(&options.mountpoint, &why) != 0) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
        exit_code = ATD_EXIT_FAILED;
    } else if (mountpoint_check_roots(&options, &why) != 0) {
        (void)fprintf(stderr, "atdatafs: %s\n", why.text);
        exit_code = ATD_EXIT_FAILED;
    } else {
        exit_code = session_run(&options);
    }
    options_release(&options);
    return exit_code;
}
