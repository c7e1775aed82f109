/* Pages as a server gave them, against the files of another that redo made: standard input is the
 * binary COPY of (path of the relation's file text, fork int4, block int4, page bytea), in order.
 *
 * usage: pages_equal DATA_DIR <COPY
 * Every page and every fork's length is compared; what may lawfully differ is masked (page_mask.h).
 * Exit 1 when anything differs. Source of the format: PostgreSQL 15, COPY, "Binary Format".
 */
#include "page_mask.h"

#include "loch/base/buf.h"
#include "loch/pg/key.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SEGMENT_BLOCKS 131072u
#define COPY_HEADER    19u

static const char *const suffixes[] = {"", "_fsm", "_vm", "_init"};

static struct {
    char path[200]; /* of the fork under way */
    uint32_t blocks;
    uint64_t pages, equal, skipped, vm_less, different, lengths;
} w;

static void input(void *to, size_t len)
{
    if (fread(to, 1, len, stdin) != len) {
        fprintf(stderr, "the input ends too soon\n");
        exit(2);
    }
}

static uint32_t big_endian(size_t len)
{
    uint8_t b[4];
    uint32_t value = 0;

    input(b, len);
    for (size_t i = 0; i < len; i++)
        value = value << 8 | b[i];
    return value;
}

static uint32_t int4(void)
{
    if (big_endian(4) != 4) {
        fprintf(stderr, "an int4 was expected\n");
        exit(2);
    }
    return big_endian(4);
}

static void segment_name(char out[static 300], const char *dir, uint32_t segment)
{
    if (segment == 0)
        snprintf(out, 300, "%s/%s", dir, w.path);
    else
        snprintf(out, 300, "%s/%s.%u", dir, w.path, segment);
}

/* The fork that ends here has as many blocks there. */
static void end_fork(const char *dir)
{
    char name[300];
    struct stat sb;
    uint64_t blocks = 0;

    if (w.path[0] == '\0')
        return;
    for (uint32_t s = 0; segment_name(name, dir, s), stat(name, &sb) == 0; s++)
        blocks += (uint64_t)sb.st_size / LOCH_PAGE_BYTES;
    if (blocks != w.blocks) {
        printf("%s: %u blocks, redo has %" PRIu64 "\n", w.path, w.blocks, blocks);
        w.lengths++;
    }
}

static void read_theirs(const char *dir, uint32_t block, uint8_t page[static LOCH_PAGE_BYTES])
{
    char name[300];
    FILE *f;

    memset(page, 0, LOCH_PAGE_BYTES);
    segment_name(name, dir, block / SEGMENT_BLOCKS);
    f = fopen(name, "rb");
    if (f == NULL)
        return; /* its length says so */
    if (fseek(f, (long)(block % SEGMENT_BLOCKS) * (long)LOCH_PAGE_BYTES, SEEK_SET) == 0 &&
        fread(page, 1, LOCH_PAGE_BYTES, f) != LOCH_PAGE_BYTES)
        memset(page, 0, LOCH_PAGE_BYTES);
    (void)fclose(f);
}

static void compare(const char *dir, uint8_t fork, uint32_t block,
                    uint8_t ours[static LOCH_PAGE_BYTES])
{
    uint8_t theirs[LOCH_PAGE_BYTES];

    read_theirs(dir, block, theirs);
    w.pages++;
    switch (page_compare(fork, ours, theirs)) {
    case PAGE_EQUAL:
        w.equal++;
        break;
    case PAGE_SKIPPED:
        w.skipped++;
        break;
    case PAGE_VM_LESS:
        w.vm_less++;
        break;
    case PAGE_DIFFERENT:
        w.different++;
        for (unsigned i = 0; i < LOCH_PAGE_BYTES; i++)
            if (ours[i] != theirs[i]) {
                printf("%s block %u differs from byte %u on\n", w.path, block, i);
                break;
            }
    }
}

static void take_row(const char *dir)
{
    char path[180], fork_path[200];
    uint8_t page[LOCH_PAGE_BYTES];
    uint32_t len = big_endian(4), fork, block;

    if (len >= sizeof path) {
        fprintf(stderr, "a path of %u bytes\n", len);
        exit(2);
    }
    input(path, len);
    path[len] = '\0';
    fork = int4();
    block = int4();
    if (fork > LOCH_FORK_INIT || big_endian(4) != LOCH_PAGE_BYTES) {
        fprintf(stderr, "%s: no such fork, or no page\n", path);
        exit(2);
    }
    input(page, sizeof page);
    snprintf(fork_path, sizeof fork_path, "%s%s", path, suffixes[fork]);
    if (strcmp(fork_path, w.path) != 0) {
        end_fork(dir);
        memcpy(w.path, fork_path, sizeof w.path);
        w.blocks = 0;
    }
    w.blocks++;
    compare(dir, (uint8_t)fork, block, page);
}

int main(int argc, char **argv)
{
    uint8_t header[COPY_HEADER];

    if (argc != 2) {
        fprintf(stderr, "usage: pages_equal DATA_DIR <COPY\n");
        return 2;
    }
    input(header, sizeof header);
    if (memcmp(header, "PGCOPY\n\377\r\n", 11) != 0) {
        fprintf(stderr, "not a binary COPY\n");
        return 2;
    }
    for (uint32_t columns; (columns = big_endian(2)) != 0xFFFF;) {
        if (columns != 4) {
            fprintf(stderr, "%u columns\n", columns);
            return 2;
        }
        take_row(argv[1]);
    }
    end_fork(argv[1]);
    printf("%" PRIu64 " pages: %" PRIu64 " equal, %" PRIu64 " sequences, %" PRIu64
           " visibility maps with less, %" PRIu64 " different; %" PRIu64
           " forks of other lengths\n",
           w.pages, w.equal, w.skipped, w.vm_less, w.different, w.lengths);
    return w.different != 0 || w.lengths != 0 || w.pages == 0;
}
