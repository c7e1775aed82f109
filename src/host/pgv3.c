/* Holds: messages of PostgreSQL's protocol v3. Source: PostgreSQL 15 documentation, chapter 55
 * (Frontend/Backend Protocol). */
#include "loch/host/pgv3.h"

#include <string.h>

void loch_pgv3_u16(struct loch_writer *w, uint16_t v)
{
    loch_write_u8(w, (uint8_t)(v >> 8));
    loch_write_u8(w, (uint8_t)v);
}

void loch_pgv3_u32(struct loch_writer *w, uint32_t v)
{
    loch_pgv3_u16(w, (uint16_t)(v >> 16));
    loch_pgv3_u16(w, (uint16_t)v);
}

void loch_pgv3_text(struct loch_writer *w, const char *text)
{
    loch_write_bytes(w, text, strlen(text) + 1);
}

size_t loch_pgv3_begin(struct loch_writer *w, char type)
{
    loch_write_u8(w, (uint8_t)type);
    size_t mark = w->buf->len;
    loch_pgv3_u32(w, 0);
    return mark;
}

void loch_pgv3_end(struct loch_writer *w, size_t mark)
{
    if (w->bad)
        return;
    uint32_t len = (uint32_t)(w->buf->len - mark);
    uint8_t *p = w->buf->data + mark;
    p[0] = (uint8_t)(len >> 24);
    p[1] = (uint8_t)(len >> 16);
    p[2] = (uint8_t)(len >> 8);
    p[3] = (uint8_t)len;
}

void loch_pgv3_error(struct loch_writer *w, const char *severity, const char *sqlstate,
                     const char *text, const char *hint)
{
    size_t mark = loch_pgv3_begin(w, 'E');

    loch_write_u8(w, 'S');
    loch_pgv3_text(w, severity);
    loch_write_u8(w, 'V');
    loch_pgv3_text(w, severity);
    loch_write_u8(w, 'C');
    loch_pgv3_text(w, sqlstate);
    loch_write_u8(w, 'M');
    loch_pgv3_text(w, text);
    if (hint != NULL) {
        loch_write_u8(w, 'H');
        loch_pgv3_text(w, hint);
    }
    loch_write_u8(w, 0);
    loch_pgv3_end(w, mark);
}

void loch_pgv3_ready(struct loch_writer *w)
{
    size_t mark = loch_pgv3_begin(w, 'Z');

    loch_write_u8(w, 'I');
    loch_pgv3_end(w, mark);
}

const char *loch_pgv3_sqlstate(enum loch_code code)
{
    switch (code) {
    case LOCH_E_OK:
        return "00000";
    case LOCH_E_CORRUPT:
        return "XX001";
    case LOCH_E_IO:
        return "58030";
    case LOCH_E_NOT_FOUND:
        return "42704";
    case LOCH_E_EXISTS:
        return "42710";
    case LOCH_E_INVALID:
        return "22023";
    case LOCH_E_DENIED:
        return "42501";
    case LOCH_E_UNAVAILABLE:
        return "57P03";
    case LOCH_E_LIMIT:
        return "54000";
    case LOCH_E_NO_MEMORY:
        return "53200";
    case LOCH_E_STALE:
        return "55000";
    case LOCH_E_UNSUPPORTED:
        return "0A000";
    case LOCH_E_KEY_REVOKED:
        return "42501";
    case LOCH_E_KMS_UNAVAILABLE:
        return "57P03";
    }
    return "XX000";
}

enum loch_code loch_pgv3_code(const char *sqlstate)
{
    for (int code = LOCH_E_CORRUPT; sqlstate != NULL && code <= LOCH_E_LAST; code++)
        if (strcmp(loch_pgv3_sqlstate((enum loch_code)code), sqlstate) == 0)
            return (enum loch_code)code;
    return LOCH_E_INVALID;
}
