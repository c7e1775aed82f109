/* Holds: the picture of a branch's layers: an SVG, LSNs from left to right, keys from bottom to
 * top.
 *
 * Keys are drawn by rank, not by value: each key that begins or ends a layer is one step, so that
 * layers which meet are seen to meet and empty ranges take no room. Delta layers are blue, layers
 * of images only are orange bars at their LSN; the darker, the more bytes. Nothing of the data is
 * in it, keys' numbers only.
 */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH  1200.0
#define HEIGHT 700.0
#define LEFT   60.0
#define TOP    40.0

/* kind, spc, db, rel, fork, block as SHOW LAYERS writes them: "1 1663/5/16384/0 17" */
struct map_key {
    uint32_t part[6];
};

struct map_layer {
    struct map_key first, last;
    loch_lsn start, end;
    double bytes;
    bool images;
    const json_t *row;
};

struct map {
    struct map_layer *layers;
    size_t count;
    struct map_key *keys; /* distinct, ascending */
    size_t key_count;
    loch_lsn low, high;
    double most; /* bytes of the largest layer */
};

static int compare_keys(const void *a, const void *b)
{
    const struct map_key *x = a;
    const struct map_key *y = b;

    for (int i = 0; i < 6; i++)
        if (x->part[i] != y->part[i])
            return x->part[i] < y->part[i] ? -1 : 1;
    return 0;
}

static loch_status parse_key(const char *text, struct map_key *out)
{
    static const char follows[] = {' ', '/', '/', '/', ' ', '\0'};
    struct map_key k = {0};
    const char *p = text;

    for (int i = 0; i < 6; i++) {
        char *end;
        k.part[i] = (uint32_t)strtoul(p, &end, 10);
        if (end == p || *end != follows[i])
            return LOCH_FAIL(LOCH_E_CORRUPT, "the pageserver names a key \"%s\"", text);
        p = end + 1;
    }
    *out = k;
    return LOCH_OK;
}

static loch_status read_layer(const json_t *row, struct map_layer *out)
{
    LOCH_TRY(parse_key(loch_field(row, "first_key"), &out->first));
    LOCH_TRY(parse_key(loch_field(row, "last_key"), &out->last));
    LOCH_TRY(loch_lsn_parse(loch_field(row, "start_lsn"), &out->start));
    LOCH_TRY(loch_lsn_parse(loch_field(row, "end_lsn"), &out->end));
    out->bytes = strtod(loch_field(row, "bytes"), NULL);
    out->images = strcmp(loch_field(row, "kind"), "image") == 0;
    out->row = row;
    return LOCH_OK;
}

static size_t rank_of(const struct map *m, const struct map_key *key)
{
    const struct map_key *at = bsearch(key, m->keys, m->key_count, sizeof *m->keys, compare_keys);

    return at != NULL ? (size_t)(at - m->keys) : 0;
}

static loch_status build(const json_t *rows, struct map *m)
{
    size_t n = json_array_size(rows);

    m->layers = calloc(n + 1, sizeof *m->layers);
    m->keys = calloc(2 * n + 1, sizeof *m->keys);
    if (m->layers == NULL || m->keys == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a picture of %zu layers", n);
    m->low = LOCH_LSN_MAX;
    for (size_t i = 0; i < n; i++) {
        struct map_layer *l = &m->layers[i];
        LOCH_TRY(read_layer(json_array_get(rows, i), l));
        m->keys[2 * i] = l->first;
        m->keys[2 * i + 1] = l->last;
        m->low = l->start < m->low ? l->start : m->low;
        m->high = l->end > m->high ? l->end : m->high;
        m->most = l->bytes > m->most ? l->bytes : m->most;
    }
    m->count = n;
    qsort(m->keys, 2 * n, sizeof *m->keys, compare_keys);
    for (size_t i = 0; i < 2 * n; i++)
        if (i == 0 || compare_keys(&m->keys[i], &m->keys[m->key_count - 1]) != 0)
            m->keys[m->key_count++] = m->keys[i];
    return LOCH_OK;
}

static double x_of(const struct map *m, loch_lsn lsn)
{
    double span = m->high > m->low ? (double)(m->high - m->low) : 1;
    return LEFT + (double)(lsn - m->low) / span * WIDTH;
}

/* How dark: 1 for the largest, a tenth less with each halving of the bytes. */
static double darkness(double bytes, double most)
{
    int halvings = 0;

    while (halvings < 9 && bytes > 0 && bytes * 2 <= most) {
        bytes *= 2;
        halvings++;
    }
    return bytes > 0 ? 1 - 0.1 * halvings : 0;
}

static void draw_layer(const struct map *m, const struct map_layer *l)
{
    double step = HEIGHT / (double)(m->key_count > 0 ? m->key_count : 1);
    double top = TOP + HEIGHT - step * (double)(rank_of(m, &l->last) + 1);
    double bottom = TOP + HEIGHT - step * (double)rank_of(m, &l->first);
    double left = x_of(m, l->start);
    double width = x_of(m, l->end) - left;

    /* Layers of one LSN would have no width. */
    if (width < 3) {
        left -= (3 - width) / 2;
        width = 3;
    }
    (void)printf(
        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"hsl(%d,70%%,%.0f%%)\" "
        "stroke=\"#333\" stroke-width=\"0.5\" fill-opacity=\"0.85\"><title>",
        left, top, width, bottom - top, l->images ? 30 : 215,
        85 - 50 * darkness(l->bytes, m->most));
    (void)printf("%s %s: %.0f bytes, %s versions, %s images; LSN %s to %s; keys %s to %s",
                 loch_field(l->row, "kind"), loch_field(l->row, "layer"), l->bytes,
                 loch_field(l->row, "versions"), loch_field(l->row, "images"),
                 loch_field(l->row, "start_lsn"), loch_field(l->row, "end_lsn"),
                 loch_field(l->row, "first_key"), loch_field(l->row, "last_key"));
    (void)printf("</title></rect>\n");
}

static void draw_mark(const struct map *m, const char *text, const char *what)
{
    loch_lsn lsn;

    if (!loch_is_ok(loch_lsn_parse(text, &lsn)) || lsn < m->low || lsn > m->high)
        return;
    (void)printf("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#c00\" "
                 "stroke-dasharray=\"4 3\"><title>%s at %s</title></line>\n",
                 x_of(m, lsn), x_of(m, lsn), TOP, TOP + HEIGHT, what, text);
}

/* Where branches leave, and up to where layers are written. */
static loch_status draw_marks(const struct loch_cluster *c, const struct map *m,
                              const json_t *branch)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows));
    json_array_foreach(
        rows, i, row) if (strcmp(loch_field(row, "ancestor"), loch_field(branch, "timeline")) == 0)
        draw_mark(m, loch_field(row, "ancestor_lsn"), loch_field(row, "name"));
    json_decref(rows);
    return LOCH_OK;
}

static loch_status draw(const struct loch_cluster *c, const struct map *m, const json_t *branch)
{
    (void)printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                 "font-family=\"sans-serif\" font-size=\"13\">\n",
                 WIDTH + 2 * LEFT, HEIGHT + 2 * TOP);
    (void)printf("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
                 "<text x=\"%.0f\" y=\"24\">branch %s: %zu layers; blue: deltas, orange: images "
                 "only; darker: more bytes (most %.0f); red: a branch leaves</text>\n",
                 LEFT, loch_field(branch, "name"), m->count, m->most);
    for (size_t i = m->count; i-- > 0;) /* the newest on top */
        draw_layer(m, &m->layers[i]);
    LOCH_TRY(draw_marks(c, m, branch));
    (void)printf("<text x=\"%.0f\" y=\"%.0f\">" LOCH_LSN_FMT "</text>\n", LEFT, TOP + HEIGHT + 20,
                 LOCH_LSN_ARG(m->count > 0 ? m->low : LOCH_LSN_NONE));
    (void)printf("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">" LOCH_LSN_FMT " (LSN)</text>\n",
                 LEFT + WIDTH, TOP + HEIGHT + 20, LOCH_LSN_ARG(m->high));
    (void)printf(
        "<text x=\"20\" y=\"%.0f\" transform=\"rotate(-90 20 %.0f)\">keys, by rank</text>\n"
        "</svg>\n",
        TOP + HEIGHT / 2, TOP + HEIGHT / 2);
    return LOCH_OK;
}

loch_status loch_branch_map(struct loch_cluster *c, const char *tenant, const char *name)
{
    json_t *branch = NULL;
    json_t *rows = NULL;
    struct map m = {0};
    loch_status st;

    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    LOCH_TRY_OUT(st, loch_consolef(c, loch_port_pageserver(c), &rows, "SHOW LAYERS %s %s", tenant,
                                   loch_field(branch, "timeline")));
    if (c->json) {
        loch_print_rows(c, rows);
        goto out;
    }
    LOCH_TRY_OUT(st, build(rows, &m));
    st = draw(c, &m, branch);
out:
    free(m.layers);
    free(m.keys);
    json_decref(rows);
    json_decref(branch);
    return st;
}
