#include "commands.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"ls", "[NAME]", "the datasets, or the shards of one", command_ls},
    {"show", "NAME|CID|PATH", "everything that is known of one", command_show},
    {"cat", "NAME [SHARD...]", "samples as lines of JSON", command_cat},
    {"publish", "FILE... NAME", "copy tars into a dataset", command_publish},
    {"schema", "SUB-COMMAND ...", "list, show, python, publish, infer", command_schema},
    {"label", "NAME|CID LABEL@VERSION", "name a version", command_label},
    {"resolve", "@local/NAME", "the URLs of its shards; --signed: for anybody", command_resolve},
    {"verify", "NAME...|all", "compare datasets with what the index says", command_verify},
    {"warm", "NAME...|all", "fetch shards into the cache", command_warm},
    {"pin", "[NAME...]", "keep shards in the cache", command_pin},
    {"unpin", "NAME...", "let shards be evicted again", command_unpin},
    {"gc", "", "find and delete objects that no entry names", command_gc},
    {"status", "[MOUNTPOINT]", "how the index is, or a mount", command_status},
    {"doctor", "", "what is in the way of a mount, and what to do", command_doctor},
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
