#include "doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "commands.h"
#include "output.h"

/* S3 refuses requests that are signed so far from its own time, Redis nothing. */
#define CLOCK_PROBLEM_S 900
#define CLOCK_WARNING_S 30

static const struct command_usage usage = {
    .name = "doctor",
    .synopsis = "",
    .about =
        "Looks at everything that a mount with the same options needs: the index (is it there,\n"
        "does it keep what it is given, does it tell of changes), the object store (bucket,\n"
        "rights, conditional writes), clocks, the cache and state directories, FUSE and the\n"
        "kernel. Says of each what is wrong and what to do. Writes one small object below the\n"
        "prefix and deletes it, unless -o ro is given.",
    .exits = "0 nothing is in the way (warnings may be), 1 something is,\n"
             "            2 the command line is wrong",
    .examples =
        "  atdatafs doctor -i redis://index.example/0 -o store=s3://team/sets,env_file=.env\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
};

/* ------------------------------------------------------------------ for the checks */

static void set_text(char into[ATD_ERROR_TEXT_MAX], const char *format, va_list args)
{
    struct atd_error text = ATD_ERROR_INIT;

    (void)atd_error_vset(&text, EIO, format, args); /* what servers say is cleaned */
    memcpy(into, text.text, sizeof(text.text));
}

struct check *doctor_say(struct doctor *doctor, const char *name, enum check_state state,
                         const char *format, ...)
{
    struct check *check = &doctor->checks[doctor->count];
    va_list args;

    atd_assert(doctor->count < DOCTOR_CHECKS_MAX);
    doctor->count++;
    *check = (struct check){.name = name, .state = state};
    va_start(args, format);
    set_text(check->said, format, args);
    va_end(args);
    return check;
}

void doctor_advise(struct check *check, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(check->advice, format, args);
    va_end(args);
}

void doctor_say_clock(struct doctor *doctor, const char *name, const char *whose, int64_t ahead_s)
{
    int64_t off_s = llabs(ahead_s);
    struct check *check =
        doctor_say(doctor, name,
                   off_s >= CLOCK_PROBLEM_S   ? CHECK_PROBLEM
                   : off_s >= CLOCK_WARNING_S ? CHECK_WARNING
                                              : CHECK_OK,
                   off_s < CLOCK_WARNING_S ? "this machine and %s agree within %lld s"
                                           : "this machine and %s differ by %lld s",
                   whose, (long long)off_s);

    if (off_s >= CLOCK_WARNING_S)
        doctor_advise(
            check, "set the clock of whichever is wrong (timedatectl set-ntp true): signed "
                   "requests fail when they differ by 15 minutes, and the times of labels decide "
                   "which of them counts");
}

/* ------------------------------------------------------------------ what is told */

static const char *word_of(enum check_state state)
{
    static const char *const words[] = {"ok", "note", "warning", "problem"};

    return words[state];
}

static unsigned count_of(const struct doctor *doctor, enum check_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < doctor->count; i++)
        count += doctor->checks[i].state == state;
    return count;
}

static void tell_text(struct atd_buf *out, const struct doctor *doctor, bool quiet)
{
    static const enum output_style styles[] = {OUTPUT_GOOD, OUTPUT_FAINT, OUTPUT_WARNING,
                                               OUTPUT_BAD};

    for (unsigned i = 0; i < doctor->count; i++) {
        const struct check *check = &doctor->checks[i];

        if (quiet && check->state < CHECK_WARNING)
            continue;
        output_styled(out, styles[check->state], atd_str_from(word_of(check->state)));
        atd_buf_printf(out, "%*s", (int)(9 - strlen(word_of(check->state))), "");
        atd_buf_printf(out, "%s: ", check->name);
        output_escape(out, atd_str_from(check->said));
        atd_buf_append_text(out, "\n");
        if (!check->advice[0])
            continue;
        atd_buf_printf(out, "%9s-> ", "");
        output_escape(out, atd_str_from(check->advice));
        atd_buf_append_text(out, "\n");
    }
    if (quiet)
        return;
    output_count(out, count_of(doctor, CHECK_PROBLEM), "problem, ", "problems, ");
    output_count(out, count_of(doctor, CHECK_WARNING), "warning\n", "warnings\n");
}

static void tell_json(struct atd_buf *out, const struct doctor *doctor)
{
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_put_uint(&json, "problems", count_of(doctor, CHECK_PROBLEM));
    atd_json_put_uint(&json, "warnings", count_of(doctor, CHECK_WARNING));
    atd_json_key(&json, "checks");
    atd_json_array_begin(&json);
    for (unsigned i = 0; i < doctor->count; i++) {
        const struct check *check = &doctor->checks[i];

        atd_json_object_begin(&json);
        atd_json_put_text(&json, "name", check->name);
        atd_json_put_text(&json, "state", word_of(check->state));
        atd_json_put_text(&json, "said", check->said);
        atd_json_put_text(&json, "advice", check->advice);
        atd_json_object_end(&json);
    }
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}

static int run(const struct options *options, const struct arguments *arguments)
{
    struct doctor *doctor = calloc(1, sizeof(*doctor));
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    struct atd_error why = ATD_ERROR_INIT;
    int exit_code;

    if (!doctor) {
        (void)atd_error_set(&why, ENOMEM, "out of memory");
        return command_failed(&why);
    }
    atd_log_open("atdatafs", 0, ATD_LOG_ERROR);
    doctor->options = options;
    if (options->index.redis)
        doctor_look_at_redis(doctor);
    doctor_look_at_index(doctor);
    doctor_look_at_store(doctor);
    doctor_look_at_host(doctor);
    if (arguments->json)
        tell_json(&out, doctor);
    else
        tell_text(&out, doctor, arguments->quiet);
    exit_code = count_of(doctor, CHECK_PROBLEM) ? ATD_EXIT_FAILED : ATD_EXIT_OK;
    free(doctor);
    return output_print(&out, &why) == 0 ? exit_code : command_failed(&why);
}

int command_doctor(int argc, char **argv)
{
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&usage, argc, argv, NULL, 0, &arguments, &options, &exit_code))
        exit_code = run(&options, &arguments);
    return command_end(&arguments, &options, exit_code);
}
