/*
 * The commands: `atdatafs COMMAND ...` without a mount. One file each.
 */
#ifndef ATD_FS_COMMANDS_H
#define ATD_FS_COMMANDS_H

struct command {
    const char *name;
    const char *words; /* what follows it */
    const char *summary;
    /* `argv[0]` is the command's name. Returns the exit code. */
    int (*run)(int argc, char **argv);
};

/* The command of a name; NULL: there is none, it is a mount. */
const struct command *command_find(const char *name);
/* One line each, for --help. */
void command_print_all(void);

int command_cat(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_gc(int argc, char **argv);
int command_label(int argc, char **argv);
int command_ls(int argc, char **argv);
int command_pin(int argc, char **argv);
int command_publish(int argc, char **argv);
int command_resolve(int argc, char **argv);
int command_schema(int argc, char **argv);
int command_show(int argc, char **argv);
int command_status(int argc, char **argv);
int command_unpin(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_warm(int argc, char **argv);

#endif
