/* loch-dump: what stands in a stored file. Between options and keys (dump.c) and contents
 * (dump_content.c). */
#ifndef LOCH_TOOLS_DUMP_H
#define LOCH_TOOLS_DUMP_H

#include "loch/base/buf.h"
#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#include <stdio.h>

struct dump_file {
    const char *path;
    int fd;
    uint64_t skip;  /* what the local object store puts before an object */
    uint64_t bytes; /* without it */
};

/* loch_read_at_fn over struct dump_file. */
LOCH_STATUS dump_read_at(void *arg, uint64_t offset, void *out, size_t len);

/* Each proves the file with the keys and prints a summary of what it holds. LOCH_E_CORRUPT:
 * damaged. */
LOCH_STATUS dump_layer(struct dump_file *file, const struct loch_place *place,
                       const struct loch_key_source *keys, FILE *to);
LOCH_STATUS dump_wal(struct dump_file *file, const struct loch_place *place,
                     const struct loch_key_source *keys, bool frames, FILE *to);
LOCH_STATUS dump_archive(struct dump_file *file, const struct loch_place *place,
                         const struct loch_key_source *keys, FILE *to);
LOCH_STATUS dump_object(struct dump_file *file, const struct loch_place *place,
                        const struct loch_key_source *keys, FILE *to);
/* Prints a keyring's head and entries; proves nothing. */
LOCH_STATUS dump_keyring(struct loch_slice bytes, struct loch_id *tenant, FILE *to);

#endif
