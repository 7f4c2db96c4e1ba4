/*
 * Where an XML parser stands, for messages.
 */
#ifndef ATD_NET_XML_POSITION_H
#define ATD_NET_XML_POSITION_H

#include <expat.h>

/* Bytes from the start; -1 unknown. New expats call for a function of another name, which the older
 * ones do not have. */
static inline long long atd_xml_position(XML_Parser parser)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return (long long)XML_GetCurrentByteIndex(parser);
#pragma GCC diagnostic pop
}

#endif
