#include "basebackup/origins.h"

#include "loch/base/crc32c.h"

#define MAGIC       0x1257DADEu
#define HEAD_BYTES  4u
#define ENTRY_BYTES 16u
#define CRC_BYTES   4u

LOCH_STATUS loch_origins_parse(struct loch_slice file,
                               LOCH_STATUS (*fn)(void *arg, uint16_t origin, loch_lsn remote),
                               void *arg)
{
    size_t body;
    uint32_t crc;

    if (file.len < HEAD_BYTES + CRC_BYTES || (file.len - HEAD_BYTES - CRC_BYTES) % ENTRY_BYTES != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "replorigin_checkpoint has %zu bytes", file.len);
    body = file.len - CRC_BYTES;
    crc = loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, file.data, body));
    if (loch_get_u32(file.data) != MAGIC || loch_get_u32(file.data + body) != crc)
        return LOCH_FAIL(LOCH_E_CORRUPT, "replorigin_checkpoint: wrong magic or checksum");
    for (size_t at = HEAD_BYTES; at < body; at += ENTRY_BYTES)
        LOCH_TRY(fn(arg, loch_get_u16(file.data + at), loch_get_u64(file.data + at + 8)));
    return LOCH_OK;
}

LOCH_STATUS loch_origins_begin(struct loch_buf *file)
{
    uint8_t magic[HEAD_BYTES];

    file->len = 0;
    loch_put_u32(magic, MAGIC);
    return loch_buf_append(file, magic, sizeof magic);
}

LOCH_STATUS loch_origins_add(struct loch_buf *file, uint16_t origin, loch_lsn remote)
{
    uint8_t entry[ENTRY_BYTES] = {0};

    loch_put_u16(entry, origin);
    loch_put_u64(entry + 8, remote);
    return loch_buf_append(file, entry, sizeof entry);
}

LOCH_STATUS loch_origins_finish(struct loch_buf *file)
{
    uint8_t crc[CRC_BYTES];

    loch_put_u32(crc,
                 loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, file->data, file->len)));
    return loch_buf_append(file, crc, sizeof crc);
}
