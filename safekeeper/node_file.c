/* Holds: the node file, three lines of text:
 *   cluster <hex>
 *   node <hex>
 *   incarnation <number>
 * Invariant: the incarnation is durable before the daemon writes anything under it. */
#include "node_file.h"

#include "loch/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_BYTES 4096u

static loch_status parse(const char *path, struct loch_slice text, struct loch_id *cluster,
                         struct loch_id *node, uint64_t *incarnation)
{
    char copy[MAX_BYTES + 1];
    char cluster_hex[40] = "";
    char node_hex[40] = "";
    uint64_t n = 0;
    int end = 0;

    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (sscanf(copy, "cluster %39s\nnode %39s\nincarnation %" SCNu64 "\n%n", cluster_hex, node_hex,
               &n, &end) != 3 ||
        (size_t)end != text.len || n == 0 || n == UINT64_MAX ||
        !loch_is_ok(loch_id_parse(cluster_hex, cluster)) ||
        !loch_is_ok(loch_id_parse(node_hex, node)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is damaged", path);
    *incarnation = n;
    return LOCH_OK;
}

loch_status sk_node_file_enter(struct loch_env *env, const char *dir, const struct loch_id *cluster,
                               const struct loch_id *node, uint64_t *incarnation)
{
    struct loch_buf text = {0};
    struct loch_id its_cluster;
    struct loch_id its_node;
    char path[1024];
    char out[256];
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];
    uint64_t n = 0;

    (void)snprintf(path, sizeof path, "%s/daemon.node", dir);
    loch_status st = loch_env_read_file(env, path, MAX_BYTES, &text);
    if (loch_is_ok(st)) {
        st = parse(path, loch_buf_slice(&text), &its_cluster, &its_node, &n);
        if (loch_is_ok(st) &&
            (!loch_id_equal(&its_cluster, cluster) || !loch_id_equal(&its_node, node)))
            st = LOCH_FAIL(LOCH_E_INVALID,
                           "%s belongs to node %s of cluster %s: wrong directory, or wrong "
                           "settings [safekeeper] node, [cluster] id",
                           dir, loch_id_format(&its_node, a), loch_id_format(&its_cluster, b));
    } else if (st.code == LOCH_E_NOT_FOUND) {
        st = LOCH_OK;
    }
    loch_buf_fini(&text);
    LOCH_TRY(st);
    (void)snprintf(out, sizeof out, "cluster %s\nnode %s\nincarnation %" PRIu64 "\n",
                   loch_id_format(cluster, a), loch_id_format(node, b), n + 1);
    LOCH_TRY(loch_env_replace_file(env, path, loch_slice_of(out, strlen(out))));
    *incarnation = n + 1;
    return LOCH_OK;
}
