/*
 * A pattern becomes a tree. A sequence stands for every combination of its items, the last item
 * varying fastest; a choice for all texts of its items, one after the other; a group for those of
 * its one item.
 * Each node knows how many texts it stands for, so that the n-th text is found by arithmetic, a
 * pattern that explodes is refused before it is expanded, and nothing is kept while expanding.
 */
#include "codec/brace_pattern.h"

#include <errno.h>

#include "base/check.h"
#include "codec/shard_url_scheme.h"

enum kind { LITERAL, NUMBERS, LETTERS, CHOICE, SEQUENCE, GROUP };

struct list {
    struct node *head;
    struct node *tail;
};

struct node {
    struct node *next;
    enum kind kind;
    uint32_t count; /* texts it stands for */
    uint32_t place; /* in a sequence: texts of all later items together; in a choice: texts of all
                       earlier ones */
    uint32_t width; /* NUMBERS: padded to so many characters */
    union {
        struct atd_str literal; /* escapes still in it */
        struct {
            int64_t first;
            int64_t step; /* signed */
        };
        struct {
            struct node *items;
            struct node *cursor; /* CHOICE: where the last text was found */
        };
    };
};

/* An open brace while reading, or the whole pattern at level 0. */
struct level {
    size_t open_at;
    struct list items;   /* of the sequence being read */
    struct list choices; /* finished sequences, when a comma was seen */
};

struct reader {
    struct atd_str text;
    size_t max_count;
    struct atd_arena *arena;
    struct atd_error *err;
    struct level levels[ATD_BRACE_DEPTH_MAX + 1];
    size_t depth;
    bool varies;
    int failed;         /* why there was no node */
    struct node *spare; /* one that was merged away: "{a}{a}{a}..." takes no memory */
};

struct atd_brace_pattern {
    struct node *root;
    bool varies;
    bool has_escapes;
};

/* One text being made. */
struct writer {
    struct atd_buf *out;
    uint64_t work_left; /* steps: bytes copied or unescaped */
    bool has_escapes;
    bool failed; /* work_left did not suffice */
};

/* Steps that a node costs before any of its bytes. */
#define NODE_WORK 4u

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

bool atd_brace_is_balanced(struct atd_str text, size_t *ret_depth)
{
    /* As in braceexpand, a '}' too many may be made good by a later '{'. */
    ptrdiff_t depth = 0;
    ptrdiff_t deepest = 0;

    for (size_t at = 0; at < text.len; at++) {
        if (text.ptr[at] == '\\')
            at++;
        else if (text.ptr[at] == '{')
            deepest = ++depth > deepest ? depth : deepest;
        else if (text.ptr[at] == '}')
            depth--;
    }
    if (ret_depth)
        *ret_depth = (size_t)deepest;
    return depth == 0;
}

static int too_many(const struct reader *reader)
{
    struct atd_url_quote quote = atd_shard_url_quote(reader->text);

    return atd_error_set(reader->err, E2BIG,
                         "pattern '" ATD_URL_QUOTE_FMT "' stands for more than %zu texts",
                         ATD_URL_QUOTE_ARG(quote), reader->max_count);
}

static int out_of_memory(const struct reader *reader)
{
    const struct atd_arena *arena = reader->arena;
    bool full = arena->used_bytes + sizeof(struct node) > arena->max_bytes;
    struct atd_url_quote quote = atd_shard_url_quote(reader->text);

    return atd_error_set(reader->err, full ? E2BIG : ENOMEM,
                         "pattern '" ATD_URL_QUOTE_FMT "' needs too much memory",
                         ATD_URL_QUOTE_ARG(quote));
}

/* One text until the caller says otherwise. NULL: reader->failed says why. */
static struct node *new_node(struct reader *reader, enum kind kind)
{
    struct node *node =
        reader->spare ? reader->spare : atd_arena_alloc(reader->arena, sizeof(*node));

    if (!node) {
        reader->failed = out_of_memory(reader);
        return NULL;
    }
    reader->spare = NULL;
    *node = (struct node){.kind = kind, .count = 1};
    return node;
}

static void list_append(struct list *list, struct node *node)
{
    if (list->tail)
        list->tail->next = node;
    else
        list->head = node;
    list->tail = node;
}

/* Adds text[start, end) to the sequence; what touches the literal before it prolongs that. */
static int add_literal(struct reader *reader, struct list *items, size_t start, size_t end)
{
    struct node *tail = items->tail;
    struct node *node;

    if (start == end)
        return 0;
    if (tail && tail->kind == LITERAL &&
        tail->literal.ptr + tail->literal.len == reader->text.ptr + start) {
        tail->literal.len += end - start;
        return 0;
    }
    node = new_node(reader, LITERAL);
    if (!node)
        return reader->failed;
    node->literal = (struct atd_str){reader->text.ptr + start, end - start};
    list_append(items, node);
    return 0;
}

/* Counts the combinations of a sequence's items. */
static int count_sequence(struct reader *reader, struct node *sequence)
{
    uint64_t count = 1;

    for (const struct node *item = sequence->items; item; item = item->next) {
        count *= item->count;
        if (count > reader->max_count)
            return too_many(reader);
    }
    sequence->count = (uint32_t)count;
    for (struct node *item = sequence->items; item; item = item->next) {
        count /= item->count;
        item->place = (uint32_t)count;
    }
    return 0;
}

/* Makes one node of a level's items. An empty sequence is an empty literal. NULL: reader->failed.
 */
static struct node *finish_sequence(struct reader *reader, struct list *items)
{
    struct node *node = items->head;

    if (!node) {
        node = new_node(reader, LITERAL);
    } else if (node != items->tail) {
        node = new_node(reader, SEQUENCE);
        if (!node)
            return NULL;
        node->items = items->head;
        reader->failed = count_sequence(reader, node);
        if (reader->failed != 0)
            return NULL;
    }
    *items = (struct list){NULL, NULL};
    return node;
}

/* At a comma or at the brace that closes a list. */
static int finish_choice(struct reader *reader, struct level *level)
{
    struct node *last = level->choices.tail;
    uint64_t before = last ? (uint64_t)last->place + last->count : 0;
    struct node *node = finish_sequence(reader, &level->items);

    if (!node)
        return reader->failed;
    if (before + node->count > reader->max_count)
        return too_many(reader);
    node->place = (uint32_t)before;
    list_append(&level->choices, node);
    return 0;
}

/*
 * A decimal number at *at, with an optional '-'. False without digits, or beyond 18 of them: such
 * a range is then no range, where Python would count on.
 */
static bool read_number(struct atd_str text, size_t *at, int64_t *ret_value)
{
    bool negative = *at < text.len && text.ptr[*at] == '-';
    size_t start = *at + negative;
    size_t i = start;
    size_t significant = 0;
    int64_t value = 0;

    for (; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++) {
        significant += significant || text.ptr[i] != '0';
        if (significant > 18)
            return false;
        value = value * 10 + (text.ptr[i] - '0');
    }
    if (i == start)
        return false;
    *at = i;
    *ret_value = negative ? -value : value;
    return true;
}

static bool skip_dots(struct atd_str text, size_t *at)
{
    if (!atd_str_starts_with(atd_str_from_byte(text, *at), ATD_STR("..")))
        return false;
    *at += 2;
    return true;
}

/* The end of a range: nothing, or "..step" whose sign does not matter and where 0 means 1. */
static bool read_step(struct atd_str text, size_t at, int64_t *ret_step)
{
    int64_t step = 1;

    if (at < text.len && (!skip_dots(text, &at) || !read_number(text, &at, &step)))
        return false;
    if (step < 0)
        step = -step;
    *ret_step = step ? step : 1;
    return at == text.len;
}

static bool is_zero_padded(struct atd_str number)
{
    return number.len > 1 && !atd_str_equal(number, ATD_STR("-0")) &&
           (number.ptr[0] == '0' || atd_str_starts_with(number, ATD_STR("-0")));
}

/* The position of a letter among `letters`, or -1. */
static int letter_index(char c)
{
    const char *hit = c ? strchr(letters, c) : NULL;

    return hit ? (int)(hit - letters) : -1;
}

/* Sets up `range` when `body`, the text between two braces, is one; count 0: too many. */
static bool read_range(struct atd_str body, size_t max_count, struct node *range)
{
    int64_t first;
    int64_t last = 0;
    int64_t step;
    size_t at = 0;
    uint64_t count;

    /* Python's '$' matches before a newline at the end too. */
    if (atd_str_ends_with(body, ATD_STR("\n")))
        body.len--;
    if (body.len >= 4 && letter_index(body.ptr[0]) >= 0) {
        at = 1;
        if (!skip_dots(body, &at) || letter_index(body.ptr[at]) < 0)
            return false;
        first = letter_index(body.ptr[0]);
        last = letter_index(body.ptr[at++]);
        range->kind = LETTERS;
    } else {
        struct atd_str from = body;
        struct atd_str to;

        if (!read_number(body, &at, &first))
            return false;
        from.len = at;
        if (!skip_dots(body, &at))
            return false;
        to = atd_str_from_byte(body, at);
        if (!read_number(body, &at, &last))
            return false;
        to.len -= body.len - at;
        if (is_zero_padded(from) || is_zero_padded(to))
            range->width = (uint32_t)(from.len > to.len ? from.len : to.len);
        range->kind = NUMBERS;
    }
    if (!read_step(body, at, &step))
        return false;
    count = (uint64_t)(first < last ? last - first : first - last) / (uint64_t)step + 1;
    range->count = count > max_count ? 0 : (uint32_t)count;
    range->first = first;
    range->step = first < last ? step : -step;
    return true;
}

/* Keeps what a pair of braces holds together, for its escapes: see unescape(). */
static int add_group(struct reader *reader, struct level *inner, struct level *outer)
{
    struct node *content = finish_sequence(reader, &inner->items);
    struct node *node;

    if (!content)
        return reader->failed;
    node = new_node(reader, GROUP);
    if (!node)
        return reader->failed;
    node->items = content;
    node->count = content->count;
    list_append(&outer->items, node);
    return 0;
}

/* At the brace that closes the innermost level. */
static int close_level(struct reader *reader, size_t close_at)
{
    struct level *inner = &reader->levels[reader->depth];
    struct level *outer = &reader->levels[--reader->depth];
    struct atd_str body = {reader->text.ptr + inner->open_at + 1, close_at - inner->open_at - 1};
    struct node range = {0};
    struct node *node;
    int rc;

    if (inner->choices.head) {
        rc = finish_choice(reader, inner);
        if (rc != 0)
            return rc;
        node = new_node(reader, CHOICE);
        if (!node)
            return reader->failed;
        reader->varies = true;
        node->items = node->cursor = inner->choices.head;
        node->count = inner->choices.tail->place + inner->choices.tail->count;
        list_append(&outer->items, node);
        return 0;
    }
    if (read_range(body, reader->max_count, &range)) {
        if (range.count == 0)
            return too_many(reader);
        reader->varies = true;
        reader->spare = inner->items.head; /* the range's own text */
        node = new_node(reader, range.kind);
        if (!node)
            return reader->failed;
        *node = range;
        list_append(&outer->items, node);
        return 0;
    }
    /* Neither list nor range: the braces are text, and what is between them joins in. */
    rc = add_literal(reader, &outer->items, inner->open_at, inner->open_at + 1);
    if (rc == 0 && atd_str_find(body, '\\') >= 0) {
        rc = add_group(reader, inner, outer);
    } else if (rc == 0 && inner->items.head) {
        struct node *head = inner->items.head;

        if (head->kind == LITERAL && head->literal.ptr == body.ptr) {
            rc = add_literal(reader, &outer->items, inner->open_at + 1,
                             inner->open_at + 1 + head->literal.len);
            reader->spare = head;
            head = head->next;
        }
        if (head) {
            list_append(&outer->items, head);
            outer->items.tail = inner->items.tail;
        }
    }
    return rc ? rc : add_literal(reader, &outer->items, close_at, close_at + 1);
}

static int read_all(struct reader *reader)
{
    size_t surplus = 0; /* of closing braces, all of them and what makes them good being text */
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < reader->text.len; at++) {
        struct level *level = &reader->levels[reader->depth];
        char c = reader->text.ptr[at];
        size_t end = at + 1;

        if (c == '{' && surplus == 0) {
            reader->levels[++reader->depth] = (struct level){.open_at = at};
            continue;
        }
        if (c == '}' && reader->depth > 0) {
            rc = close_level(reader, at);
            continue;
        }
        if (c == ',' && reader->depth > 0) {
            rc = finish_choice(reader, level);
            continue;
        }
        if (c == '{')
            surplus--;
        else if (c == '}')
            surplus++;
        else if (c == '\\' && end < reader->text.len)
            end++;
        rc = add_literal(reader, &level->items, at, end);
        at = end - 1;
    }
    return rc;
}

int atd_brace_pattern_read(struct atd_str text, size_t max_count, struct atd_arena *arena,
                           struct atd_brace_pattern **ret_pattern, struct atd_error *err)
{
    struct reader reader = {.text = text, .max_count = max_count, .arena = arena, .err = err};
    struct atd_brace_pattern *pattern = atd_arena_alloc(arena, sizeof(*pattern));
    struct node *root;
    size_t depth = 0;
    int rc;

    atd_assert(max_count > 0 && max_count <= UINT32_MAX);
    atd_assert(atd_brace_is_balanced(text, NULL));
    (void)atd_brace_is_balanced(text, &depth);
    if (depth > ATD_BRACE_DEPTH_MAX) {
        struct atd_url_quote quote = atd_shard_url_quote(text);

        return atd_error_set(err, E2BIG,
                             "pattern '" ATD_URL_QUOTE_FMT "' nests deeper than %u braces",
                             ATD_URL_QUOTE_ARG(quote), ATD_BRACE_DEPTH_MAX);
    }
    if (!pattern)
        return out_of_memory(&reader);
    rc = read_all(&reader);
    if (rc != 0)
        return rc;
    atd_assert(reader.depth == 0);
    root = finish_sequence(&reader, &reader.levels[0].items);
    if (!root)
        return reader.failed;
    pattern->root = root;
    pattern->varies = reader.varies;
    pattern->has_escapes = atd_str_find(text, '\\') >= 0;
    *ret_pattern = pattern;
    return 0;
}

size_t atd_brace_pattern_count(const struct atd_brace_pattern *pattern)
{
    return pattern->root->count;
}

bool atd_brace_pattern_varies(const struct atd_brace_pattern *pattern)
{
    return pattern->varies;
}

static bool spend(struct writer *writer, uint64_t work)
{
    writer->failed = writer->failed || work > writer->work_left;
    if (writer->failed)
        return false;
    writer->work_left -= work;
    return true;
}

/*
 * Undoes the escapes of what `out` holds from `start` on: `\x` is x, for every x but a newline,
 * where the '.' of braceexpand's regular expression stops. It does so once for every level of
 * braces, so that inside them `\\` means nothing at all.
 */
static void unescape(struct writer *writer, size_t start)
{
    struct atd_buf *out = writer->out;
    const uint8_t *end;
    uint8_t *to;

    if (!writer->has_escapes || out->len <= start || !spend(writer, out->len - start))
        return;
    to = memchr(out->ptr + start, '\\', out->len - start);
    if (!to)
        return;
    end = out->ptr + out->len;
    for (const uint8_t *from = to; from < end; from++) {
        if (*from == '\\' && end - from > 1) {
            if (from[1] == '\n')
                *to++ = *from;
            from++;
        }
        *to++ = *from;
    }
    out->len = (size_t)(to - out->ptr);
    *to = '\0';
}

/* As "%0*d", but several times as fast: a pattern may ask for millions. */
static void append_number(int64_t value, uint32_t width, struct atd_buf *out)
{
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        atd_buf_append_byte(out, '-');
    for (size_t len = sizeof(digits) - at + (value < 0); len < width && !out->failed; len++)
        atd_buf_append_byte(out, '0');
    atd_buf_append(out, digits + at, sizeof(digits) - at);
}

/* Recursion: a level of braces is two levels here, and those are limited. */
static void append_text(struct node *node, uint32_t index, struct writer *writer)
{
    struct atd_buf *out = writer->out;
    size_t start = out->len;

    if (!spend(writer, NODE_WORK))
        return;
    switch (node->kind) {
    case LITERAL:
        if (spend(writer, node->literal.len))
            atd_buf_append_str(out, node->literal);
        return;
    case NUMBERS:
        if (spend(writer, node->width))
            append_number(node->first + node->step * index, node->width, out);
        return;
    case LETTERS:
        atd_buf_append_byte(out, (uint8_t)letters[node->first + node->step * index]);
        return;
    case CHOICE:
        if (index < node->cursor->place)
            node->cursor = node->items;
        while (index - node->cursor->place >= node->cursor->count && spend(writer, 1))
            node->cursor = node->cursor->next;
        if (writer->failed)
            return;
        append_text(node->cursor, index - node->cursor->place, writer);
        unescape(writer, start);
        return;
    case GROUP:
        append_text(node->items, index, writer);
        unescape(writer, start);
        return;
    case SEQUENCE:
        for (struct node *item = node->items; item && !writer->failed; item = item->next)
            append_text(item, index / item->place % item->count, writer);
        return;
    }
}

bool atd_brace_pattern_text(struct atd_brace_pattern *pattern, size_t index, uint64_t *work_left,
                            struct atd_buf *out)
{
    struct writer writer = {
        .out = out, .work_left = *work_left, .has_escapes = pattern->has_escapes};
    size_t start = out->len;

    atd_assert(index < pattern->root->count);
    append_text(pattern->root, (uint32_t)index, &writer);
    unescape(&writer, start);
    *work_left = writer.work_left;
    return !writer.failed;
}
