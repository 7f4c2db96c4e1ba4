/*
 * Which kind of file some bytes are, by how they begin: the suffix that their file name gets, so
 * that an image viewer opens an image.
 *
 * Only what nearly no other bytes begin with is believed. Sources: PNG 5.2, JFIF, GIF89a, RIFF
 * (WebP, WAVE), TIFF 6.0 and BigTIFF, BITMAPFILEHEADER, ISO 14496-12 (AVIF, HEIC, MP4), ISO 18181-2
 * (JPEG XL), ISO 15444-1 (JPEG 2000), FLAC, Ogg, ID3v2, PDF, gzip, ATDATA-FORMATS 5.3.
 */
#ifndef ATD_DATASET_SNIFF_H
#define ATD_DATASET_SNIFF_H

#include "atdata/str.h"

/* ".png", ".bin" when nothing is recognised. Static text, plain ASCII. */
const char *atd_sniff_suffix(struct atd_bytes bytes);

#endif
