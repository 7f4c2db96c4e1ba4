/*
 * From samples to a schema, and whether a sample fits one.
 *
 * Source: ATDATA-FORMATS 4.1, 4.2 (kinds), 4.7 (what makes a record decodable), 5.2, 5.3 (what
 * bytes a bin holds). Pure.
 */
#ifndef ATD_CODEC_SCHEMA_INFER_H
#define ATD_CODEC_SCHEMA_INFER_H

#include "atdata/sample.h"
#include "atdata/schema.h"

/* What was seen of the fields of all samples so far. */
struct atd_schema_inferrer;

/* NULL when out of memory. */
struct atd_schema_inferrer *atd_schema_inferrer_new(void) ATD_MUST_USE;
void atd_schema_inferrer_free(struct atd_schema_inferrer *inferrer);

/*
 * Takes one sample's fields in. Types: str, int, float, bool, bytes; a bin that is an array (npy or
 * compact, by the rules of 5.3) is an ndarray with its dtype's name as Python publishes it (float32
 * for what it cannot name, and for a field of several dtypes); lists of one type are arrays of it
 * (a nil in a list says nothing), empty and mixed lists, and lists of maps, bare ones. nil, or
 * absent in some sample: optional. Bool, int and float mix to the greater, array and other bin to
 * bytes. The order of samples has no say in the types.
 * After an error the inferrer is good for freeing only. Errors: EINVAL a type that no schema has (a
 * map), or two types under one name, or a name that no Python class can have (the field is named);
 * E2BIG over 1024 fields; ENOMEM. Allocates for fields that are new only.
 */
int atd_schema_inferrer_add(struct atd_schema_inferrer *inferrer, const struct atd_sample *sample,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * One member of a plain WebDataset sample: its extension, in lower case, becomes a field (what is
 * neither letter, digit nor underscore in it an underscore; "field_" goes before one that no class
 * can have: "0.jpg" is field_0_jpg, "class" field_class). What follows the last dot says the type:
 * txt, text, transcript, json, jsonl: str; cls, cls2, index, count, inx, id: int; all others, npy,
 * jpg, png and so on: bytes. `sample_number` counts samples from 0 and never falls, so that members
 * that some samples lack become optional. An inferrer takes samples or members, not both.
 * Errors: as above.
 */
int atd_schema_inferrer_add_member(struct atd_schema_inferrer *inferrer, uint64_t sample_number,
                                   struct atd_str extension, struct atd_error *err) ATD_MUST_USE;

/*
 * Takes in what another one has seen, as if its samples came after these: for several files.
 * Errors: as above; the sentence tells of "here", which is in the other's.
 */
int atd_schema_inferrer_merge(struct atd_schema_inferrer *inferrer,
                              const struct atd_schema_inferrer *other,
                              struct atd_error *err) ATD_MUST_USE;

/*
 * The record: required fields first, each group in the order of first sight; no description. A
 * field that was nil in every sample is an optional str. `name` is a class name (see below). Lives
 * in `arena`. Errors: EINVAL there is no field; ENOMEM.
 */
int atd_schema_inferrer_finish(const struct atd_schema_inferrer *inferrer, struct atd_str name,
                               struct atd_str version, struct atd_str created_at,
                               struct atd_arena *arena, struct atd_schema *ret_schema,
                               struct atd_error *err) ATD_MUST_USE;

/*
 * A class name made of a dataset's: "mnist-train v2" -> "MnistTrainV2", "team/2024" -> "Team2024",
 * "2024" -> "Dataset2024", "" -> "DatasetSample"; always an ASCII identifier that is neither
 * keyword nor a name that the class's module needs. What is not ASCII is left out, what is too long
 * cut.
 */
#define ATD_CLASS_NAME_SIZE 128
void atd_class_name_of(struct atd_str dataset, char ret_name[ATD_CLASS_NAME_SIZE]);

/*
 * True when both decode the same samples to the same fields: names, order, kinds, primitives,
 * dtypes, items, optionality. Name, version, description, time and shapes do not count.
 */
bool atd_schema_same_fields(const struct atd_schema *a, const struct atd_schema *b);

/*
 * Whether the class that Python decodes of the schema could be built from the sample (4.7: field
 * sets are enforced, types are not; here types are too, as far as they can do harm): a field the
 * schema does not have, a required one that is missing or nil, text where an array is, and the
 * like. An int is fine for a float and a bool for both; any bin for bytes and for the v0.7 binary
 * kinds; an ndarray field wants a bin that is an array (any dtype: the declared one is never to be
 * trusted, 4.2); nil is fine in a list. Unknown kinds take anything. Every sample conforms to what
 * was inferred from it. Allocates nothing; fast when the fields come in the schema's order.
 * Errors: EINVAL naming the field and what is wrong.
 */
int atd_schema_conforms(const struct atd_schema *schema, const struct atd_sample *sample,
                        struct atd_error *err) ATD_MUST_USE;

#endif
