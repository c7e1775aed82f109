#include "basebackup/aux_file.h"

#include "loch/base/crc32c.h"

#include <string.h>

struct loch_key loch_aux_key(const char *path)
{
    return (struct loch_key){
        .kind = LOCH_KEY_AUX_FILE,
        .rel = loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, path, strlen(path)))};
}

/* Relative, no "..", no empty component, printable. */
static bool path_is_inside(const char *path, size_t len)
{
    if (len == 0 || len > LOCH_AUX_PATH_MAX || path[0] == '/' || path[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (path[i] < ' ' || path[i] > '~')
            return false;
        if (path[i] == '/' && path[i + 1] == '/')
            return false;
        if ((i == 0 || path[i - 1] == '/') && path[i] == '.' &&
            (i + 1 == len || path[i + 1] == '.' || path[i + 1] == '/'))
            return false;
    }
    return true;
}

LOCH_STATUS loch_aux_encode(const char *path, struct loch_slice contents, struct loch_buf *out)
{
    struct loch_writer w;
    size_t len = strlen(path);

    if (!path_is_inside(path, len))
        return LOCH_FAIL(LOCH_E_INVALID, "%.120s is no path of an auxiliary file", path);
    if (contents.len > LOCH_AUX_FILE_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s has %zu bytes, at most %u are kept", path, contents.len,
                         LOCH_AUX_FILE_MAX);
    out->len = 0;
    loch_writer_init(&w, out);
    loch_write_u16(&w, (uint16_t)len);
    loch_write_bytes(&w, path, len);
    loch_write_bytes(&w, contents.data, contents.len);
    return loch_writer_finish(&w);
}

LOCH_STATUS loch_aux_decode(struct loch_slice value, char path[static LOCH_AUX_PATH_MAX + 1],
                            struct loch_slice *contents)
{
    struct loch_reader r;
    struct loch_slice name, rest;
    uint16_t len;

    loch_reader_init(&r, value);
    len = loch_read_u16(&r);
    name = loch_read_bytes(&r, len);
    rest = loch_read_bytes(&r, loch_reader_left(&r));
    LOCH_TRY(loch_reader_finish(&r, "auxiliary file"));
    if (len > LOCH_AUX_PATH_MAX || memchr(name.data, 0, name.len) != NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "an auxiliary file's path makes no sense");
    memcpy(path, name.data, name.len);
    path[name.len] = '\0';
    if (!path_is_inside(path, name.len))
        return LOCH_FAIL(LOCH_E_CORRUPT, "an auxiliary file's path makes no sense");
    *contents = rest;
    return LOCH_OK;
}
