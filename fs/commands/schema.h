/*
 * The commands `schema ...`, one function each. `argv[0]` is the sub-command's name.
 */
#ifndef ATD_FS_SCHEMA_COMMANDS_H
#define ATD_FS_SCHEMA_COMMANDS_H

#define SCHEMA_VERSION_DEFAULT "1.0.0"

int schema_list(int argc, char **argv);
int schema_show(int argc, char **argv);
int schema_python(int argc, char **argv);
int schema_publish(int argc, char **argv);
int schema_infer(int argc, char **argv);

#endif
