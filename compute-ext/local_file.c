/* Holds: what md.c cannot do with its files: sparse growth, holes, atomic appearance.
 * Invariant (md.c's own): every segment before the last has exactly RELSEG_SIZE blocks. */
#include "local_file.h"

#include "shared.h"

#include "commands/tablespace.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BLOCKS ((BlockNumber)RELSEG_SIZE)

static void segment_path(char out[MAXPGPATH], RelFileNode rnode, ForkNumber fork,
                         BlockNumber segment)
{
    char *base = relpathperm(rnode, fork);

    if (segment == 0)
        strlcpy(out, base, MAXPGPATH);
    else
        snprintf(out, MAXPGPATH, "%s.%u", base, segment);
    pfree(base);
}

static off_t offset_in_segment(BlockNumber block)
{
    return (off_t)BLCKSZ * (off_t)(block % SEGMENT_BLOCKS);
}

bool loch_local_exists(RelFileNode rnode, ForkNumber fork)
{
    char path[MAXPGPATH];

    segment_path(path, rnode, fork, 0);
    return access(path, F_OK) == 0;
}

static pg_noinline void fail_on(const char *what, const char *path)
{
    ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", what, path),
                    errhint("Check free space of the scratch.")));
}

/* Length of a segment in bytes, -1 when there is none. */
static off_t segment_length(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0)
        return st.st_size;
    if (errno != ENOENT)
        fail_on("stat", path);
    return -1;
}

BlockNumber loch_local_blocks(RelFileNode rnode, ForkNumber fork)
{
    char path[MAXPGPATH];
    BlockNumber blocks = 0;

    for (BlockNumber segment = 0;; segment++) {
        off_t length;

        segment_path(path, rnode, fork, segment);
        length = segment_length(path);
        if (length < 0)
            return blocks;
        blocks += (BlockNumber)(length / BLCKSZ);
    }
}

bool loch_local_read(RelFileNode rnode, ForkNumber fork, BlockNumber block, char *page)
{
    char path[MAXPGPATH];
    bool got;
    int fd;

    segment_path(path, rnode, fork, block / SEGMENT_BLOCKS);
    fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
    if (fd < 0)
        return false;
    got = pread(fd, page, BLCKSZ, offset_in_segment(block)) == BLCKSZ;
    (void)close(fd);
    return got;
}

static void create_segment(const char *path)
{
    int fd = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);

    if (fd < 0)
        fail_on("create", path);
    (void)close(fd);
}

static void grow_segment(const char *path, off_t length)
{
    off_t have = segment_length(path);

    if (have < 0)
        create_segment(path);
    if (have < length && truncate(path, length) != 0)
        fail_on("extend", path);
}

void loch_local_extend(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    BlockNumber segment = block / SEGMENT_BLOCKS;
    char path[MAXPGPATH];

    if (block == InvalidBlockNumber)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("cannot extend relation %u beyond %u blocks", rnode.relNode,
                               InvalidBlockNumber)));
    segment_path(path, rnode, fork, segment);
    if (segment > 0 && segment_length(path) < 0) {
        char before[MAXPGPATH];

        for (BlockNumber s = 0; s < segment; s++) {
            segment_path(before, rnode, fork, s);
            grow_segment(before, (off_t)BLCKSZ * RELSEG_SIZE);
        }
    }
    grow_segment(path, offset_in_segment(block) + BLCKSZ);
}

/* Holes among the `count` blocks that begin at `from`, both within the file. */
static uint64 holes_of(int fd, off_t from, uint32 count)
{
    uint64 holes = 0;
    uint32 at = 0;

    while (at < count) {
        off_t data = lseek(fd, from + (off_t)at * BLCKSZ, SEEK_DATA);
        uint32 next = count;

        if (data < 0 && errno != ENXIO)
            return 0;
        if (data >= 0)
            next = (uint32)Min((off_t)count, (data - from) / BLCKSZ);
        for (; at < next; at++)
            holes |= UINT64_C(1) << at;
        at++; /* the one that has data */
    }
    return holes;
}

uint64 loch_local_holes(RelFileNode rnode, ForkNumber fork, BlockNumber block, uint32 count)
{
    off_t from = offset_in_segment(block);
    char path[MAXPGPATH];
    uint64 holes = 0;
    struct stat st;
    int fd;

    segment_path(path, rnode, fork, block / SEGMENT_BLOCKS);
    fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0 && st.st_size > from) {
        off_t blocks = (st.st_size - from) / BLCKSZ;

        holes = holes_of(fd, from, (uint32)Min(Min(blocks, (off_t)count), 64));
    }
    (void)close(fd);
    return holes;
}

void loch_local_punch(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    char path[MAXPGPATH];
    int fd, rc;

    segment_path(path, rnode, fork, block / SEGMENT_BLOCKS);
    fd = BasicOpenFile(path, O_RDWR | PG_BINARY);
    if (fd < 0)
        fail_on("open", path);
    rc =
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_in_segment(block), BLCKSZ);
    if (rc != 0) { /* a file system without holes: zeros mean the same */
        static const PGAlignedBlock zero;

        rc = pwrite(fd, zero.data, BLCKSZ, offset_in_segment(block)) == BLCKSZ ? 0 : -1;
    }
    (void)close(fd);
    if (rc != 0)
        fail_on("punch a hole into", path);
}

static void write_pages(int fd, const char *path, BlockNumber blocks, const char *pages)
{
    size_t left = (size_t)blocks * BLCKSZ;

    while (left > 0) {
        ssize_t n = write(fd, pages, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            (void)close(fd);
            fail_on("write", path);
        }
        pages += n;
        left -= (size_t)n;
    }
}

/* The first segment, made under another name and renamed: nobody sees it with a wrong length. */
static void publish_first(RelFileNode rnode, ForkNumber fork, BlockNumber blocks, const char *pages)
{
    char path[MAXPGPATH], draft[MAXPGPATH];
    int fd;

    segment_path(path, rnode, fork, 0);
    snprintf(draft, sizeof draft, "%s.draft.%d", path, MyProcPid);
    fd = BasicOpenFile(draft, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
    if (fd < 0)
        fail_on("create", draft);
    if (pages != NULL) {
        write_pages(fd, draft, blocks, pages);
    } else if (ftruncate(fd, (off_t)BLCKSZ * (off_t)Min(blocks, SEGMENT_BLOCKS)) != 0) {
        (void)close(fd);
        fail_on("extend", draft);
    }
    (void)close(fd);
    if (rename(draft, path) != 0)
        fail_on("rename", draft);
}

void loch_local_publish(RelFileNode rnode, ForkNumber fork, BlockNumber blocks, const char *pages)
{
    LWLock *lock = loch_create_lock(hash_bytes((const unsigned char *)&rnode, (int)sizeof rnode));

    Assert(CritSectionCount == 0);
    Assert(pages == NULL || blocks <= SEGMENT_BLOCKS);
    TablespaceCreateDbspace(rnode.spcNode, rnode.dbNode, true);
    LWLockAcquire(lock, LW_EXCLUSIVE);
    if (!loch_local_exists(rnode, fork)) {
        for (BlockNumber s = blocks / SEGMENT_BLOCKS; s > 0; s--) {
            char path[MAXPGPATH];

            segment_path(path, rnode, fork, s);
            grow_segment(path,
                         (off_t)BLCKSZ * (off_t)Min(blocks - s * SEGMENT_BLOCKS, SEGMENT_BLOCKS));
        }
        publish_first(rnode, fork, blocks, pages);
        loch_count(fork_materialised);
    }
    LWLockRelease(lock);
}
