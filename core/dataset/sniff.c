#include "dataset/sniff.h"

#define BMP_HEADER_BYTES 26u /* of the smallest, with its dimensions */
#define ZIP_HEADER_BYTES 30u

static bool has(struct atd_bytes bytes, size_t at, struct atd_str magic)
{
    return bytes.len >= at && bytes.len - at >= magic.len &&
           memcmp(bytes.ptr + at, magic.ptr, magic.len) == 0;
}

static uint32_t u32le(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static const struct {
    struct atd_str magic;
    const char *suffix;
} beginnings[] = {
    {{"\x89PNG\r\n\x1a\n", 8}, ".png"},
    {{"\xff\xd8\xff", 3}, ".jpg"},
    {{"GIF87a", 6}, ".gif"},
    {{"GIF89a", 6}, ".gif"},
    {{"II*\0", 4}, ".tif"},
    {{"MM\0*", 4}, ".tif"},
    {{"II+\0\x08\0\0\0", 8}, ".tif"},
    {{"MM\0+\0\x08\0\0", 8}, ".tif"},
    {{"\0\0\0\x0cJXL \r\n\x87\n", 12}, ".jxl"},
    {{"\0\0\0\x0cjP  \r\n\x87\n", 12}, ".jp2"},
    {{"\x93NUMPY", 6}, ".npy"},
    {{"fLaC\0", 5}, ".flac"},
    {{"OggS\0", 5}, ".ogg"},
    {{"ID3\x03\0", 5}, ".mp3"},
    {{"ID3\x04\0", 5}, ".mp3"},
    {{"%PDF-", 5}, ".pdf"},
    {{"\x1f\x8b\x08", 3}, ".gz"},
};

static const struct {
    struct atd_str brand;
    const char *suffix;
} iso_brands[] = {
    {{"avif", 4}, ".avif"}, {{"avis", 4}, ".avif"}, {{"heic", 4}, ".heic"}, {{"heix", 4}, ".heic"},
    {{"mif1", 4}, ".heic"}, {{"isom", 4}, ".mp4"},  {{"iso2", 4}, ".mp4"},  {{"mp41", 4}, ".mp4"},
    {{"mp42", 4}, ".mp4"},  {{"avc1", 4}, ".mp4"},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* What several formats put into one container. */
static const char *container_suffix(struct atd_bytes bytes)
{
    if (has(bytes, 0, ATD_STR("RIFF"))) {
        if (has(bytes, 8, ATD_STR("WEBP")))
            return ".webp";
        return has(bytes, 8, ATD_STR("WAVE")) ? ".wav" : NULL;
    }
    if (has(bytes, 4, ATD_STR("ftyp"))) {
        for (size_t i = 0; i < COUNT(iso_brands); i++) {
            if (has(bytes, 8, iso_brands[i].brand))
                return iso_brands[i].suffix;
        }
        return NULL;
    }
    /* SciPy's and NumPy's archives have .npy members. */
    if (has(bytes, 0, ATD_STR("PK\x03\x04")) && bytes.len > ZIP_HEADER_BYTES) {
        size_t name_len = bytes.ptr[26] | (size_t)bytes.ptr[27] << 8;

        return name_len >= 4 && has(bytes, ZIP_HEADER_BYTES + name_len - 4, ATD_STR(".npy"))
                   ? ".npz"
                   : ".zip";
    }
    return NULL;
}

/* The two letters are not enough: the size must be right as well. */
static bool is_bmp(struct atd_bytes bytes)
{
    return bytes.len >= BMP_HEADER_BYTES && has(bytes, 0, ATD_STR("BM")) &&
           u32le(bytes.ptr + 2) == bytes.len;
}

/* u64 length of a JSON object that begins with its brace. */
static bool is_safetensors(struct atd_bytes bytes)
{
    uint64_t len;

    if (bytes.len < 10 || bytes.ptr[8] != '{')
        return false;
    len = u32le(bytes.ptr) | (uint64_t)u32le(bytes.ptr + 4) << 32;
    if (len < 2 || len > bytes.len - 8)
        return false;
    for (size_t at = (size_t)len + 7; at > 8; at--) { /* padded with blanks */
        if (bytes.ptr[at] != ' ')
            return bytes.ptr[at] == '}';
    }
    return false;
}

const char *atd_sniff_suffix(struct atd_bytes bytes)
{
    const char *suffix;

    for (size_t i = 0; i < COUNT(beginnings); i++) {
        if (has(bytes, 0, beginnings[i].magic))
            return beginnings[i].suffix;
    }
    suffix = container_suffix(bytes);
    if (suffix)
        return suffix;
    if (is_bmp(bytes))
        return ".bmp";
    if (bytes.len >= 12 && has(bytes, 0, ATD_STR("PAR1")) &&
        has(bytes, bytes.len - 4, ATD_STR("PAR1")))
        return ".parquet";
    if (is_safetensors(bytes))
        return ".safetensors";
    return ".bin";
}
