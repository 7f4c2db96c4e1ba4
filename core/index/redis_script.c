#include "index/redis_script.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"

#define SHA1_BYTES 20
#define NUMBER_BYTES_MAX 24

/*
 * One key a step. ARGV, a step: the type its key must have ('any': any), how many values follow,
 * of each the field and the SHA-1 that it must have ('-': it must not be there); then the effect,
 * how many arguments follow, and these. Answers 0, or the number of the step that does not hold.
 *
 * What a user may not do is asked before the first write, where the server can tell (7.0 on): a
 * script that fails half-way is not undone. HSET gets few arguments at once: unpack() has a limit.
 */
static const char script[] =
    "local at = 1\n"
    "local function take()\n"
    "  at = at + 1\n"
    "  return ARGV[at - 1]\n"
    "end\n"
    "local function holds(key)\n"
    "  local wanted, count = take(), tonumber(take())\n"
    "  local kind = redis.call('TYPE', key).ok\n"
    "  local same = wanted == 'any' or wanted == kind\n"
    "  for _ = 1, count do\n"
    "    local field, sum = take(), take()\n"
    "    if same then\n"
    "      local value\n"
    "      if kind == 'hash' then\n"
    "        value = redis.call('HGET', key, field)\n"
    "      else\n"
    "        value = redis.call('GET', key)\n"
    "      end\n"
    "      if value then\n"
    "        same = redis.sha1hex(value) == sum\n"
    "      else\n"
    "        same = sum == '-'\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  return same\n"
    "end\n"
    "local function may(effect, key)\n"
    "  local check = redis.acl_check_cmd\n"
    "  if not check or effect == 'none' then return true end\n"
    "  if effect == 'set' then return check('SET', key, '') end\n"
    "  return check('DEL', key) and (effect == 'delete' or check('HSET', key, '', ''))\n"
    "end\n"
    "local function hset(key, pairs_of_it)\n"
    "  for first = 1, #pairs_of_it, 1000 do\n"
    "    redis.call('HSET', key,\n"
    "      unpack(pairs_of_it, first, math.min(first + 999, #pairs_of_it)))\n"
    "  end\n"
    "end\n"
    "local effects = {}\n"
    "for i, key in ipairs(KEYS) do\n"
    "  if not holds(key) then return i end\n"
    "  effects[i] = at\n"
    "  local effect, count = take(), tonumber(take())\n"
    "  if not may(effect, key) then\n"
    "    return redis.error_reply('NOPERM a command of the change is not allowed')\n"
    "  end\n"
    "  at = at + count\n"
    "end\n"
    "for i, key in ipairs(KEYS) do\n"
    "  at = effects[i]\n"
    "  local effect, count = take(), tonumber(take())\n"
    "  local given = {unpack(ARGV, at, at + count - 1)}\n"
    "  if effect == 'delete' then\n"
    "    redis.call('DEL', key)\n"
    "  elseif effect == 'set' then\n"
    "    redis.call('SET', key, given[1])\n"
    "  elseif effect == 'renew' then\n"
    "    redis.call('DEL', key)\n"
    "    hset(key, given)\n"
    "  elseif effect == 'merge' then\n"
    "    local kind = redis.call('TYPE', key).ok\n"
    "    if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end\n"
    "    hset(key, given)\n"
    "  elseif effect == 'without' then\n"
    "    local all, left = redis.call('HGETALL', key), {}\n"
    "    for f = 1, #all, 2 do\n"
    "      if all[f] ~= given[1] then\n"
    "        left[#left + 1] = all[f]\n"
    "        left[#left + 1] = all[f + 1]\n"
    "      end\n"
    "    end\n"
    "    if #left < #all then\n"
    "      redis.call('DEL', key)\n"
    "      hset(key, left)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "return 0\n";

/* ------------------------------------------------------------------ arguments */

struct arguments {
    struct atd_arena *arena;
    struct atd_str *list;
    size_t count;
    size_t max;
    bool failed; /* out of memory */
};

static void add(struct arguments *arguments, struct atd_str argument)
{
    atd_assert(arguments->count < arguments->max);
    arguments->list[arguments->count++] = argument;
}

static void add_copy(struct arguments *arguments, struct atd_str argument)
{
    struct atd_str copy = atd_arena_str(arguments->arena, argument);

    if (copy.ptr)
        add(arguments, copy);
    else
        arguments->failed = true;
}

static void add_number(struct arguments *arguments, size_t number)
{
    char text[NUMBER_BYTES_MAX];

    (void)snprintf(text, sizeof(text), "%zu", number);
    add_copy(arguments, atd_str_from(text));
}

static void add_sum(struct arguments *arguments, struct atd_str value)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    char text[2 * SHA1_BYTES + 1];
    unsigned len = 0;

    if (!EVP_Digest(value.len ? value.ptr : "", value.len, sum, &len, EVP_sha1(), NULL) ||
        len != SHA1_BYTES) {
        arguments->failed = true;
        return;
    }
    for (size_t i = 0; i < SHA1_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", sum[i]);
    add_copy(arguments, atd_str_from(text));
}

static void add_step(struct arguments *arguments, const struct atd_redis_step *step)
{
    static const struct atd_str conditions[] = {
        [ATD_REDIS_IF_ANY] = {"any", 3},     [ATD_REDIS_IF_ABSENT] = {"none", 4},
        [ATD_REDIS_IF_HASH] = {"hash", 4},   [ATD_REDIS_IF_STRING] = {"string", 6},
        [ATD_REDIS_IF_NEVER] = {"never", 5},
    };
    static const struct atd_str effects[] = {
        [ATD_REDIS_NONE] = {"none", 4},   [ATD_REDIS_DELETE] = {"delete", 6},
        [ATD_REDIS_SET] = {"set", 3},     [ATD_REDIS_RENEW] = {"renew", 5},
        [ATD_REDIS_MERGE] = {"merge", 5}, [ATD_REDIS_WITHOUT] = {"without", 7},
    };
    const bool values_only = step->effect == ATD_REDIS_SET;
    const bool fields_only = step->effect == ATD_REDIS_WITHOUT;

    add(arguments, conditions[step->condition]);
    add_number(arguments, step->wanted_count);
    for (size_t i = 0; i < step->wanted_count; i++) {
        add(arguments, step->wanted[i].field);
        if (step->wanted[i].value.ptr)
            add_sum(arguments, atd_bytes_str(step->wanted[i].value));
        else
            add(arguments, ATD_STR("-"));
    }
    add(arguments, effects[step->effect]);
    add_number(arguments, step->pair_count * (values_only || fields_only ? 1 : 2));
    for (size_t i = 0; i < step->pair_count; i++) {
        if (!values_only)
            add(arguments, step->pairs[i].field);
        if (!fields_only)
            add(arguments, atd_bytes_str(step->pairs[i].value));
    }
}

/* EVALSHA and EVAL differ in the first two alone. */
static int make_arguments(struct arguments *arguments, const struct atd_redis_step *steps,
                          size_t count, struct atd_error *err)
{
    arguments->max = 3 + count * (1 + 4 + 4 * (size_t)ATD_REDIS_PAIRS_MAX);
    arguments->list =
        atd_arena_alloc_array(arguments->arena, arguments->max, sizeof(struct atd_str));
    if (arguments->list) {
        add(arguments, ATD_STR("EVALSHA"));
        add_sum(arguments, (struct atd_str){script, sizeof(script) - 1});
        add_number(arguments, count);
        for (size_t i = 0; i < count; i++)
            add(arguments, steps[i].key);
        for (size_t i = 0; i < count; i++)
            add_step(arguments, &steps[i]);
    }
    if (!arguments->list || arguments->failed)
        return atd_error_set(err, ENOMEM, "a change: out of memory");
    return 0;
}

/* ------------------------------------------------------------------ the answer */

static int take_answer(const redisReply *reply, size_t count, enum atd_redis_verdict *ret_verdict,
                       size_t *ret_which, struct atd_error *err)
{
    struct atd_str text = atd_redis_reply_text(reply);

    if (reply->type == REDIS_REPLY_INTEGER && reply->integer == 0) {
        *ret_verdict = ATD_REDIS_DONE;
        return 0;
    }
    if (reply->type == REDIS_REPLY_INTEGER && reply->integer > 0 &&
        (unsigned long long)reply->integer <= count) {
        *ret_verdict = ATD_REDIS_CONFLICT;
        *ret_which = (size_t)reply->integer - 1;
        return 0;
    }
    if (reply->type != REDIS_REPLY_ERROR)
        return atd_error_set(err, EREMOTEIO,
                             "the server's answer to a change is of an unexpected form, so that it "
                             "is not known whether it was made");
    if (atd_redis_error_is(text, ATD_STR("CROSSSLOT"))) {
        *ret_verdict = ATD_REDIS_CROSSSLOT;
        return 0;
    }
    if (atd_redis_error_refuses_script(text)) {
        *ret_verdict = ATD_REDIS_REFUSED;
        return 0;
    }
    return atd_redis_change_error_set(text, err);
}

static int ask(struct atd_redis_link *link, const struct arguments *arguments,
               redisReply **ret_reply, struct atd_error *err)
{
    int rc = atd_redis_link_ask_write(link, arguments->list, arguments->count, err);

    return rc ? rc : atd_redis_link_next_of_change(link, ret_reply, err);
}

int atd_redis_script_run(struct atd_redis_link *link, const struct atd_redis_step *steps,
                         size_t count, enum atd_redis_verdict *ret_verdict, size_t *ret_which,
                         struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_REDIS_PLAN_BYTES_MAX);
    struct arguments arguments = {.arena = &arena};
    redisReply *reply = NULL;
    int rc = make_arguments(&arguments, steps, count, err);

    if (rc == 0)
        rc = ask(link, &arguments, &reply, err);
    if (rc == 0 && reply->type == REDIS_REPLY_ERROR &&
        atd_redis_error_is(atd_redis_reply_text(reply), ATD_STR("NOSCRIPT"))) {
        freeReplyObject(reply);
        reply = NULL;
        arguments.list[0] = ATD_STR("EVAL");
        arguments.list[1] = (struct atd_str){script, sizeof(script) - 1};
        rc = ask(link, &arguments, &reply, err);
    }
    if (rc == 0)
        rc = take_answer(reply, count, ret_verdict, ret_which, err);
    if (reply)
        freeReplyObject(reply);
    return rc;
}
