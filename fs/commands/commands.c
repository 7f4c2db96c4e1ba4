#include "commands.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"cat", "NAME [SHARD...]", "samples as lines of JSON", command_cat},
    {"doctor", "", "what is in the way of a mount, and what to do", command_doctor},
    {"gc", "", "find and delete objects that no entry names", command_gc},
    {"pin", "[NAME...]", "keep shards in the cache", command_pin},
    {"publish", "FILE... NAME", "copy tars into a dataset", command_publish},
    {"unpin", "NAME...", "let shards be evicted again", command_unpin},
    {"verify", "NAME...|all", "compare datasets with what the index says", command_verify},
    {"warm", "NAME...|all", "fetch shards into the cache", command_warm},
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
