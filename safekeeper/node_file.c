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
                         struct loch_id *node, uint64_t *incarnation, struct loch_id *journal)
{
    char copy[MAX_BYTES + 1];
    char cluster_hex[40] = "";
    char node_hex[40] = "";
    char journal_hex[40] = "";
    uint64_t n = 0;
    int end = 0;
    int more = 0;

    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    *journal = (struct loch_id){0};
    bool good = sscanf(copy, "cluster %39s\nnode %39s\nincarnation %" SCNu64 "\n%n", cluster_hex,
                       node_hex, &n, &end) == 3 &&
                end > 0 && n > 0 && n < UINT64_MAX &&
                loch_is_ok(loch_id_parse(cluster_hex, cluster)) &&
                loch_is_ok(loch_id_parse(node_hex, node));
    if (good && (size_t)end < text.len)
        good = sscanf(copy + end, "journal %39s\n%n", journal_hex, &more) == 1 &&
               (size_t)(end + more) == text.len && loch_is_ok(loch_id_parse(journal_hex, journal));
    if (!good)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is damaged", path);
    *incarnation = n;
    return LOCH_OK;
}

loch_status sk_node_file_write(struct loch_env *env, const char *dir, const struct loch_id *cluster,
                               const struct loch_id *node, uint64_t incarnation,
                               const struct loch_id *journal)
{
    char path[1024];
    char out[256];
    char line[64] = "";
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];

    (void)snprintf(path, sizeof path, "%s/daemon.node", dir);
    if (journal != NULL)
        (void)snprintf(line, sizeof line, "journal %s\n", loch_id_format(journal, a));
    (void)snprintf(out, sizeof out, "cluster %s\nnode %s\nincarnation %" PRIu64 "\n%s",
                   loch_id_format(cluster, a), loch_id_format(node, b), incarnation, line);
    return loch_env_replace_file(env, path, loch_slice_of(out, strlen(out)));
}

loch_status sk_node_file_enter(struct loch_env *env, const char *dir, const struct loch_id *cluster,
                               const struct loch_id *node, uint64_t *incarnation,
                               struct loch_id *journal)
{
    static const struct loch_id none;
    struct loch_buf text = {0};
    struct loch_id its_cluster;
    struct loch_id its_node;
    struct loch_id its_journal = {0};
    char path[1024];
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];
    uint64_t n = 0;

    (void)snprintf(path, sizeof path, "%s/daemon.node", dir);
    loch_status st = loch_env_read_file(env, path, MAX_BYTES, &text);
    if (loch_is_ok(st)) {
        st = parse(path, loch_buf_slice(&text), &its_cluster, &its_node, &n, &its_journal);
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
    LOCH_TRY(sk_node_file_write(env, dir, cluster, node, n + 1,
                                loch_id_equal(&its_journal, &none) ? NULL : &its_journal));
    *incarnation = n + 1;
    *journal = its_journal;
    return LOCH_OK;
}
