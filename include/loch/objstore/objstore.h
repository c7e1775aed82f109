/* Whole objects by name, with conditional puts: the one truth a cluster is rebuilt from.
 *
 * Synchronous and durable on return. Call from pool threads or at start-up, never on the loop's
 * thread of a running daemon. Safe from several threads and several processes at once.
 *
 * Names: components of [A-Za-z0-9._=-] joined by '/', none empty, none beginning with '.' or ending
 * in
 * ".tmp", at most LOCH_OBJECT_NAME_MAX bytes; anything else is LOCH_E_INVALID.
 * Conditional puts are linearised for each name. An ETag is new at every put, also for equal bytes,
 * so that a name that went away and came back is noticed.
 */
#ifndef LOCH_OBJSTORE_OBJSTORE_H
#define LOCH_OBJSTORE_OBJSTORE_H

#include "loch/base/buf.h"
#include "loch/base/status.h"
#include "loch/io/env.h"

#define LOCH_OBJECT_NAME_MAX 512u
#define LOCH_ETAG_TEXT_BYTES 65u

struct loch_objstore;

/* Opaque to callers, compared as a whole; NUL-ended. An empty text is "none". */
struct loch_etag {
    char text[LOCH_ETAG_TEXT_BYTES];
};

/* A directory on a local file system; created when absent. `env` must outlive the store. Proves
 * first, with an object of its own below "probe/", that conditional puts are honoured:
 * LOCH_E_UNSUPPORTED. */
LOCH_STATUS loch_objstore_open_local(struct loch_env *env, const char *dir,
                                     struct loch_objstore **out);
/* Takes NULL. */
void loch_objstore_close(struct loch_objstore *store);

/* Appends the object's bytes to `out`. LOCH_E_NOT_FOUND; LOCH_E_LIMIT above max_bytes;
 * LOCH_E_CORRUPT when the stored bytes are not the ones that were put; `etag` may be NULL. */
LOCH_STATUS loch_objstore_get(struct loch_objstore *store, const char *name, size_t max_bytes,
                              struct loch_buf *out, struct loch_etag *etag);
/* Appends exactly `len` bytes from `offset`. LOCH_E_NOT_FOUND; LOCH_E_CORRUPT beyond the end. The
 * bytes are not checked against what was put: whoever reads ranges authenticates them. */
LOCH_STATUS loch_objstore_get_range(struct loch_objstore *store, const char *name, uint64_t offset,
                                    size_t len, struct loch_buf *out);
/* Either out-pointer may be NULL. LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_objstore_head(struct loch_objstore *store, const char *name, uint64_t *size,
                               struct loch_etag *etag);

/* Creates or overwrites. `etag` (of the new object) may be NULL in all three. */
LOCH_STATUS loch_objstore_put(struct loch_objstore *store, const char *name,
                              struct loch_slice bytes, struct loch_etag *etag);
/* LOCH_E_EXISTS when there is such an object, whatever its bytes. */
LOCH_STATUS loch_objstore_put_if_absent(struct loch_objstore *store, const char *name,
                                        struct loch_slice bytes, struct loch_etag *etag);
/* LOCH_E_STALE when the object is another than `expect`, also when it is gone. */
LOCH_STATUS loch_objstore_put_if_match(struct loch_objstore *store, const char *name,
                                       const struct loch_etag *expect, struct loch_slice bytes,
                                       struct loch_etag *etag);
/* LOCH_OK also when there was none. */
LOCH_STATUS loch_objstore_delete(struct loch_objstore *store, const char *name);

/* Calls fn for every object whose name begins with `prefix`, ascending by name (memcmp); fn returns
 * false to stop. `prefix` is empty or a name that may end in '/'. Objects put or deleted meanwhile
 * may or may not be seen. `name` is borrowed for the call. */
LOCH_STATUS loch_objstore_list(struct loch_objstore *store, const char *prefix,
                               bool (*fn)(void *arg, const char *name, uint64_t size), void *arg);

#endif
