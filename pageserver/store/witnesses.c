/* A queue of notes, one for each path, and the thread that writes them. */
#include "witnesses.h"

#include "loch/base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct note {
    struct note *next;
    char *dir, *path;
    uint64_t generation;
    uint8_t hash[LOCH_WITNESS_HASH_BYTES];
};

struct loch_witnesses {
    struct loch_env *env;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    pthread_t thread;
    struct note *first, **end; /* due */
    struct note *writing;
    bool ended;
};

static void free_note(struct note *n)
{
    if (n == NULL)
        return;
    free(n->dir);
    free(n->path);
    free(n);
}

static void *write_notes(void *arg)
{
    struct loch_witnesses *w = arg;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->first == NULL && !w->ended)
            pthread_cond_wait(&w->moved, &w->lock);
        struct note *n = w->writing = w->first;
        if (n == NULL)
            break;
        w->first = n->next;
        if (w->first == NULL)
            w->end = &w->first;
        pthread_mutex_unlock(&w->lock);
        if (!loch_is_ok(loch_witness_note(w->env, n->dir, n->path, n->generation, n->hash)))
            loch_log_failure("cannot note which manifest is the newest");
        pthread_mutex_lock(&w->lock);
        w->writing = NULL;
        free_note(n);
        pthread_cond_broadcast(&w->moved);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

LOCH_STATUS loch_witnesses_create(struct loch_env *env, struct loch_witnesses **out)
{
    struct loch_witnesses *w = calloc(1, sizeof *w);
    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for notes of manifests");
    w->env = env;
    w->end = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->moved, NULL);
    if (pthread_create(&w->thread, NULL, write_notes, w) != 0) {
        pthread_cond_destroy(&w->moved);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return LOCH_FAIL(LOCH_E_IO, "no thread for notes of manifests");
    }
    *out = w;
    return LOCH_OK;
}

void loch_witnesses_destroy(struct loch_witnesses *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
    (void)pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->moved);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct note *make_note(const char *dir, const char *path)
{
    struct note *n = calloc(1, sizeof *n);
    if (n == NULL)
        return NULL;
    n->dir = strdup(dir);
    n->path = strdup(path);
    if (n->dir != NULL && n->path != NULL)
        return n;
    free_note(n);
    return NULL;
}

LOCH_STATUS loch_witnesses_note(struct loch_witnesses *w, const char *dir, const char *path,
                                uint64_t generation,
                                const uint8_t hash[static LOCH_WITNESS_HASH_BYTES])
{
    struct note *n = NULL;

    pthread_mutex_lock(&w->lock);
    for (n = w->first; n != NULL && strcmp(n->path, path) != 0;)
        n = n->next;
    if (n == NULL && (n = make_note(dir, path)) != NULL) {
        *w->end = n;
        w->end = &n->next;
    }
    if (n != NULL) {
        n->generation = generation;
        memcpy(n->hash, hash, sizeof n->hash);
    }
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
    return n != NULL ? LOCH_OK : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a note of a manifest");
}

void loch_witnesses_drop(struct loch_witnesses *w, const char *path)
{
    pthread_mutex_lock(&w->lock);
    for (struct note **link = &w->first; *link != NULL;) {
        struct note *n = *link;
        if (strcmp(n->path, path) != 0) {
            link = &n->next;
            continue;
        }
        *link = n->next;
        if (*link == NULL)
            w->end = link;
        free_note(n);
    }
    while (w->writing != NULL && strcmp(w->writing->path, path) == 0)
        pthread_cond_wait(&w->moved, &w->lock);
    pthread_mutex_unlock(&w->lock);
}
