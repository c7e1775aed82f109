/* The pg_control of a worker's data directory: it only has to pass the server's checks of version,
 * layout and CRC; nothing of it is used.
 *
 * Source: PostgreSQL 15 catalog/pg_control.h; offsets of ControlFileData:
 *   0 system_identifier u64, 8 pg_control_version u32, 12 catalog_version_no u32, 16 state u32,
 *   32 checkPoint u64, 40 CheckPoint (88), 172 wal_level, 180 MaxConnections .. 196
 *   max_locks_per_xact, 204 maxAlign, 208 floatFormat double, 216 blcksz, 220 relseg_size,
 *   224 xlog_blcksz, 228 xlog_seg_size, 232 nameDataLen, 236 indexMaxKeys, 240
 * toast_max_chunk_size, 244 loblksize, 248 float8ByVal, 252 data_checksum_version, 256 nonce (32),
 * 288 crc32c.
 */
#include "redo_pool/redo_process.h"

#include "loch/base/crc32c.h"

#define CONTROL_CRC_OFFSET 288u

void redo_minimal_control(uint8_t out[static LOCH_PAGE_BYTES])
{
    const double float_format = 1234567.0;

    memset(out, 0, LOCH_PAGE_BYTES);
    loch_put_u64(out, 1);
    loch_put_u32(out + 8, 1300);
    loch_put_u32(out + 12, 202209061);
    loch_put_u32(out + 16, 1); /* DB_SHUTDOWNED */
    loch_put_u64(out + 32, (16u << 20) + 40);
    loch_put_u64(out + 40, (16u << 20) + 40);
    loch_put_u32(out + 48, 1); /* ThisTimeLineID */
    loch_put_u32(out + 52, 1); /* PrevTimeLineID */
    loch_put_u32(out + 172, 1);
    loch_put_u32(out + 180, 100);
    loch_put_u32(out + 184, 8);
    loch_put_u32(out + 188, 10);
    loch_put_u32(out + 196, 64);
    loch_put_u32(out + 204, 8);
    memcpy(out + 208, &float_format, sizeof float_format);
    loch_put_u32(out + 216, 8192);
    loch_put_u32(out + 220, 131072);
    loch_put_u32(out + 224, 8192);
    loch_put_u32(out + 228, 16u << 20);
    loch_put_u32(out + 232, 64);
    loch_put_u32(out + 236, 32);
    loch_put_u32(out + 240, 1996);
    loch_put_u32(out + 244, 2048);
    out[248] = 1;
    loch_put_u32(out + CONTROL_CRC_OFFSET,
                 loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, out, CONTROL_CRC_OFFSET)));
}
