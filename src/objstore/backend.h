/* Holds: what a back-end of the object store must do. Names were checked before. */
#ifndef LOCH_OBJSTORE_BACKEND_H
#define LOCH_OBJSTORE_BACKEND_H

#include "loch/objstore/objstore.h"

#include <sys/types.h>

enum put_kind { PUT_ALWAYS, PUT_IF_ABSENT, PUT_IF_MATCH };

struct put_condition {
    enum put_kind kind;
    const struct loch_etag *expect; /* PUT_IF_MATCH */
};

struct objstore_ops {
    void (*close)(struct loch_objstore *store);
    LOCH_STATUS(*get)
    (struct loch_objstore *store, const char *name, size_t max_bytes, struct loch_buf *out,
     struct loch_etag *etag);
    LOCH_STATUS(*get_range)
    (struct loch_objstore *store, const char *name, uint64_t offset, size_t len,
     struct loch_buf *out);
    LOCH_STATUS(*head)
    (struct loch_objstore *store, const char *name, uint64_t *size, struct loch_etag *etag);
    LOCH_STATUS(*put)
    (struct loch_objstore *store, const char *name, struct put_condition cond,
     struct loch_slice bytes, struct loch_etag *etag);
    LOCH_STATUS (*delete)(struct loch_objstore *store, const char *name);
    LOCH_STATUS(*list)
    (struct loch_objstore *store, const char *prefix,
     bool (*fn)(void *arg, const char *name, uint64_t size), void *arg);
};

struct loch_objstore {
    const struct objstore_ops *ops;
};

/* The byte of its directory's ".lock" that the local back-end locks while it changes the object. */
off_t objstore_lock_byte(const char *name);

/* Proves with an object of its own that conditional puts are honoured. LOCH_E_UNSUPPORTED. */
LOCH_STATUS objstore_probe(struct loch_env *env, struct loch_objstore *store);

#endif
