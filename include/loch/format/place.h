/* The place of a sealed file: what it is and where it belongs. A reader states the place it
 * expects, and a file that was made for another one, or with the key of another one, does not open.
 */
#ifndef LOCH_FORMAT_PLACE_H
#define LOCH_FORMAT_PLACE_H

#include "loch/base/buf.h"
#include "loch/base/secret.h"
#include "loch/base/types.h"

/* On disk; values never change meaning. */
enum loch_kind {
    LOCH_KIND_LAYER = 1,             /* pageserver: image or delta layer */
    LOCH_KIND_WAL = 2,               /* safekeeper: one session of WAL */
    LOCH_KIND_CONTROL = 3,           /* safekeeper: a timeline's control file */
    LOCH_KIND_TIMELINE_MANIFEST = 4, /* object store */
    LOCH_KIND_TENANT_MANIFEST = 5,   /* object store */
    LOCH_KIND_WAL_ARCHIVE = 8,       /* object store: a piece of committed WAL */
    LOCH_KIND_MEMBERS = 9            /* object store: who keeps a timeline's WAL */
};

/* Fields a kind has no use for are none. */
struct loch_place {
    uint8_t kind; /* enum loch_kind */
    struct loch_id tenant;
    struct loch_id timeline; /* none: a tenant's own object */
    struct loch_id file_id;  /* layers: the random file id; WAL files: none */
    struct loch_id node;     /* WAL and control files: the safekeeper; else none */
    uint64_t generation;     /* layers: generation; WAL files: sequence number; archive: begin */
};

/* Where readers find the key that a file's envelope names. The envelope is not proven, and whoever
 * has any key can seal a file for any place: so find gives out only a key that such a file is
 * sealed under at `expected`, that is, of its tenant, timeline and kind. May be called from any
 * thread, does not block, and gives the caller a secret of its own.
 * LOCH_E_NOT_FOUND: the tenant has no such key or version; LOCH_E_CORRUPT: it is one for other
 * places; LOCH_E_DENIED: revoked. */
struct loch_key_source {
    LOCH_STATUS(*find)
    (void *arg, const struct loch_place *expected, const struct loch_id *key_id, uint32_t version,
     struct loch_secret *out);
    void *arg;
};

/* Size of every file's header, envelope included. */
#define LOCH_FILE_HEADER_BYTES 272u

/* What anyone can read of a sealed file without keys, for tools. */
struct loch_file_peek {
    struct loch_place place;
    uint16_t format, min_reader;
    uint8_t aead, kdf, wrap, codec, flags;
    uint32_t block_bytes;
    struct loch_id session;
    struct loch_id key_id;
    uint32_t key_version;
};
/* `bytes` begins with the file's header. Nothing of it is proven. LOCH_E_CORRUPT: not a sealed
 * file. */
LOCH_STATUS loch_file_peek(struct loch_slice bytes, struct loch_file_peek *out);
const char *loch_kind_name(uint8_t kind);

#endif
