#include "commands.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"cat", "NAME [SHARD...]", "samples as lines of JSON", command_cat},
    {"gc", "", "find and delete objects that no entry names", command_gc},
    {"publish", "FILE... NAME", "copy tars into a dataset", command_publish},
    {"verify", "NAME...|all", "compare datasets with what the index says", command_verify},
};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

void command_print_all(void)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        (void)printf("  %-8s %-22s %s\n", commands[i].name, commands[i].words, commands[i].summary);
}
