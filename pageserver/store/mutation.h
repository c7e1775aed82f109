/* Named defects of the engine, so that tests/model can prove that its checks see them.
 *
 * Only the model's own build defines LOCH_MODEL_MUTATIONS; in the product every
 * LOCH_STORE_MUTATED(...) is the constant false and leaves no code.
 */
#ifndef LOCH_PAGESERVER_STORE_MUTATION_H
#define LOCH_PAGESERVER_STORE_MUTATION_H

#define LOCH_STORE_MUTATION_LIST(X)                                                                \
    X(POINTS_IGNORED, "points-ignored", "a merge removes what branches and leases hold")           \
    X(BASE_REMOVED, "base-removed", "a merge removes what stands under the window")                \
    X(CUT_REMOVED, "cut-removed", "a merge keeps the newest cut of a relation only")               \
    X(CUT_FORGOTTEN, "cut-forgotten", "a merge drops cuts below the cutoff")                       \
    X(CUT_NOT_HELD, "cut-not-held", "a merge keeps cuts for reads at the cutoff alone")            \
    X(CUT_HELD_SHORT, "cut-held-short", "a merge drops the cut that hides more")                   \
    X(CUT_OVERLEAPT, "cut-overleapt", "a read leaps over the cut that hides the page")             \
    X(BRANCH_NOT_HELD, "branch-not-held", "a branch does not hold its branch point")               \
    X(LEASE_NOT_HELD, "lease-not-held", "the cutoff moves over leases")                            \
    X(POINTS_NOT_STORED, "points-not-stored", "held LSNs are not in the manifest")                 \
    X(WINDOW_BY_TIME_ONLY, "window-by-time-only", "the window's bytes are not counted")            \
    X(CUTOFF_TOO_FAR, "cutoff-too-far", "a merge removes up to what is on disk")                   \
    X(CUTOFF_NOT_TOLD, "cutoff-not-told", "reads below the cutoff are answered")                   \
    X(OLD_FILES_FIRST, "old-files-first", "merged files go before the manifest is put")            \
    X(FLUSH_FORGOTTEN, "flush-forgotten", "a merge commits the list that it began with")           \
    X(PART_FORGOTTEN, "part-forgotten", "a flush's last file is not in the manifest")              \
    X(BANDS_REVERSED, "bands-reversed", "a merge takes the oldest band for the newest")            \
    X(IMAGE_OVER_CUT, "image-over-cut", "an image carries what a cut hides")                       \
    X(HOT_FORGOTTEN, "hot-forgotten", "chains in memory are not bounded")                          \
    X(ROOM_FORGOTTEN, "room-forgotten", "flushes leave a page's chain no room to grow")            \
    X(FROZEN_FORGOTTEN, "frozen-forgotten", "a page in a layer that is to be flushed is fresh")    \
    X(ANCESTOR_FORGOTTEN, "ancestor-forgotten", "a merge reads ancestors that lack WAL")           \
    X(CHAIN_FORGOTTEN, "chain-forgotten", "older layers' records are not counted")

enum loch_store_mutation {
    LOCH_STORE_MUTATION_NONE = 0,
#define LOCH_STORE_MUTATION_ENUM(id_, name_, text_) LOCH_STORE_MUTATION_##id_,
    LOCH_STORE_MUTATION_LIST(LOCH_STORE_MUTATION_ENUM)
#undef LOCH_STORE_MUTATION_ENUM
};

#ifdef LOCH_MODEL_MUTATIONS
extern enum loch_store_mutation loch_store_mutation;
#define LOCH_STORE_MUTATED(id_) (loch_store_mutation == LOCH_STORE_MUTATION_##id_)
#else
#define LOCH_STORE_MUTATED(id_) false
#endif

#endif
