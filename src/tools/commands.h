/* The commands of `loch`. Each takes the words after its name and returns when it is done; results
 * go to standard output (JSON under --json), progress to standard error. */
#ifndef LOCH_TOOLS_COMMANDS_H
#define LOCH_TOOLS_COMMANDS_H

#include "cluster.h"
#include "side_branch.h"

/* Options every command shares, as parsed; NULL or 0 when not given. */
struct loch_options {
    const char *tenant, *branch, *from, *at, *kms_uri, *confirm, *aside,
        *extra;         /* extra: "name=value,..." PostgreSQL settings */
    const char *import; /* a data directory to import */
    const char *into;   /* a directory to export to */
    const char *hosts, *listen;
    const char *to; /* the fourth word: a new name */
    int port;
    int timeout_s; /* for clean stops */
    bool immediate, read_only, wipe, keep_prepared, rollback_prepared;
};

LOCH_STATUS loch_cmd_init(struct loch_cluster *c, const struct loch_options *o);
LOCH_STATUS loch_cmd_up(struct loch_cluster *c, const struct loch_options *o);
LOCH_STATUS loch_cmd_down(struct loch_cluster *c, const struct loch_options *o);
LOCH_STATUS loch_cmd_status(struct loch_cluster *c, const struct loch_options *o);
LOCH_STATUS loch_cmd_tenant(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                            const char *name);
LOCH_STATUS loch_cmd_branch(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                            const char *name);
LOCH_STATUS loch_cmd_safekeeper(struct loch_cluster *c, const struct loch_options *o,
                                const char *verb, const char *name, const char *other);
LOCH_STATUS loch_cmd_compute(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                             const char *name);
LOCH_STATUS loch_cmd_key(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                         const char *name);
/* cmd_shred.c */
LOCH_STATUS loch_key_shred(struct loch_cluster *c, const struct loch_options *o, const char *what);
LOCH_STATUS loch_key_verify_shredded(struct loch_cluster *c, const struct loch_options *o,
                                     const char *id);
/* `loch key receipt` and `loch key audit verify` (cmd_audit.c). */
LOCH_STATUS loch_key_receipt(struct loch_cluster *c, const struct loch_options *o);
LOCH_STATUS loch_key_audit(struct loch_cluster *c, const char *verb);
/* `loch key check URI`; no cluster is needed. */
LOCH_STATUS loch_key_check(const struct loch_cluster *c, const char *uri);
/* A round trip through the key service; fails with what `key check` says. */
LOCH_STATUS loch_key_works(const char *uri);

/* ---- shared between the commands ---- */
#define LOCH_KMS_CLAUSE_BYTES 900u
/* " KMS 'uri'" for a console command, or nothing when uri is NULL. */
LOCH_STATUS loch_kms_clause(const char *uri, char *out, size_t len);
/* Pins the tenant's CMK on every safekeeper; a quorum must take it. */
LOCH_STATUS loch_tenant_pin(const struct loch_cluster *c, const char *tenant_id, const char *uri);
/* Gives safekeepers the pins that the pageserver has and they lack; what fails is a warning. */
void loch_pins_repair(const struct loch_cluster *c);
void loch_tenant_unpin(const struct loch_cluster *c, const char *tenant_id);
/* The tenant's id by its name; LOCH_E_NOT_FOUND. */
LOCH_STATUS loch_tenant_find(const struct loch_cluster *c, const char *name, char id[33]);
/* The row of SHOW TIMELINES for the branch; the caller decrefs *row. */
LOCH_STATUS loch_branch_find(const struct loch_cluster *c, const char *tenant_id, const char *name,
                             json_t **row);
/* The same; where no branch has that name and it is a timeline's id, a row with `timeline`, `name`
 * and `cmk_of` (both as given): of a branch whose removal failed when it was no branch any more. */
LOCH_STATUS loch_branch_find_gone(const struct loch_cluster *c, const char *tenant_id,
                                  const char *name, json_t **row);
/* The failure `why` (its text is the last one) of a removal of the branch; where that was
 * found by its name and is no branch any more (*gone) it says to repeat the command with `repeat`
 * and the timeline's id. Never LOCH_OK.
 */
LOCH_STATUS loch_branch_gone_hint(const struct loch_cluster *c, const char *tenant_id,
                                  const json_t *branch, const char *repeat, loch_status why,
                                  bool *gone);
/* Whether the branch (a row of SHOW TIMELINES) is what a creation left that was cut short before
 * the safekeepers heard of it: all members answer, none knows a membership of it, and it has
 * nothing but what it began with. */
bool loch_branch_unfinished(const struct loch_cluster *c, const char *tenant_id,
                            const json_t *branch);
/* LOCH_E_INVALID, naming who holds its keys, for a branch (its row and name) without a CMK of its
 * own.
 */
LOCH_STATUS loch_branch_own_cmk(const json_t *row, const char *name);
/* Brings every timeline's membership to the cluster's members: makes the timeline where it is
 * missing, lets it catch up, and changes the membership; what was deleted is dropped first. What is
 * down is left for later; with `strict` that is a failure, and a quorum of the members must answer.
 * A timeline that fails does not stop the others: the first one's failure comes at the end. */
LOCH_STATUS loch_members_settle(struct loch_cluster *c, bool strict);
/* Ends changes that are under way in the members from before them. */
LOCH_STATUS loch_members_abort(struct loch_cluster *c);
/* LOCH_E_UNAVAILABLE unless a quorum of the members answers, as fewer may not know every timeline,
 * and of those in `to`, which shall be the members, a quorum and every one that is not a member:
 * else the change could not begin, and nothing may be written down that `loch up` would go by. */
LOCH_STATUS loch_members_may_move(const struct loch_cluster *c,
                                  const bool to[LOCH_SAFEKEEPERS_MAX]);
/* Fails unless it is certain that no timeline has a member on safekeeper n: n itself has none, or
 * every timeline's membership could be read. */
LOCH_STATUS loch_members_may_go(const struct loch_cluster *c, int n);
/* Drops what safekeepers keep of timelines that are proven to be deleted (leftovers.c), saying so.
 * What cannot be proven, or done, is a warning at most. */
void loch_leftovers_drop(struct loch_cluster *c);
/* LOCH_E_UNAVAILABLE, saying what, when a safekeeper that answers keeps WAL. */
LOCH_STATUS loch_safekeepers_empty(const struct loch_cluster *c);
/* Every timeline there is, from who knows them all: rows of SHOW TIMELINES. LOCH_E_UNAVAILABLE when
 * those of a tenant are not known now. The caller decrefs. */
LOCH_STATUS loch_timelines_known(const struct loch_cluster *c, json_t **out);
/* Deletions of tenants that were ordered and cut short: gone on with when the pageserver, asked
 * now, has no such tenant; forgotten when it has. */
void loch_deletions_finish(struct loch_cluster *c);
LOCH_STATUS loch_safekeeper_start(struct loch_cluster *c, int n);
LOCH_STATUS loch_safekeeper_stop(struct loch_cluster *c, int n);
/* Tells every member of a new timeline, and forms its membership of those that took it; at least a
 * quorum must. */
LOCH_STATUS loch_timeline_announce(const struct loch_cluster *c, const json_t *row);
/* Every safekeeper is given the command; one that does not answer, or refuses it, is named, not
 * waited for. False: there is such a one. */
bool loch_safekeepers_told(const struct loch_cluster *c, const char *command);
/* Every safekeeper forgets the timeline; one that does not answer is named, not waited for: it
 * drops it at the next `loch up` (leftovers.c). */
void loch_timeline_forget(const struct loch_cluster *c, const char *tenant, const char *timeline);
/* After it: the safekeepers forget the keys and the CMK of a branch that had its own, and no more
 * ask for it. */
void loch_lock_forget(const struct loch_cluster *c, const char *tenant, const char *branch);
/* The LSN of the branch (a row of SHOW TIMELINES) that --at means: an LSN as it is, a time as
 * recovery_target_time means it, NULL the tip with everything acknowledged. */
LOCH_STATUS loch_branch_point(const struct loch_cluster *c, const json_t *branch, const char *at,
                              loch_lsn *lsn);
/* Makes the branch `name` of o->from at o->at, known to the safekeepers too; *out as CREATE BRANCH
 * answers. The caller decrefs. */
LOCH_STATUS loch_branch_make(struct loch_cluster *c, const struct loch_options *o, const char *name,
                             json_t **out);
/* Drops it everywhere; LOCH_E_NOT_FOUND. By its id also when the pageserver has nothing of it any
 * more: then the safekeepers are told once more. */
LOCH_STATUS loch_branch_remove(struct loch_cluster *c, const char *tenant_id, const char *name);
/* The branch as it was at o->at under its own name; what it was stays under a dated one. */
LOCH_STATUS loch_branch_restore(struct loch_cluster *c, const struct loch_options *o,
                                const char *tenant_id, const char *branch);
/* The branch at o->at as a data directory at o->into, for a stock PostgreSQL (cmd_export.c). */
LOCH_STATUS loch_branch_export(struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant_id, const char *name);
/* Removes branches that a command made for itself and was killed before it could remove them, and
 * names those that only look so. What fails is a warning (side_sweep.c). */
void loch_side_sweep(struct loch_cluster *c);
/* Its layers as a picture (SVG) on standard output; --json: as rows. */
LOCH_STATUS loch_branch_map(struct loch_cluster *c, const char *tenant_id, const char *name);
/* The branch of its own that a read-only compute gets, of o->branch at o->at. Its note is the
 * caller's to end when the compute has one. */
LOCH_STATUS loch_read_only_branch(struct loch_cluster *c, const struct loch_options *o,
                                  const char *compute, struct loch_side_note *side,
                                  json_t **branch);
/* A read-only compute has stopped: its branch and its note go. */
LOCH_STATUS loch_read_only_end(struct loch_cluster *c, const char *compute, const json_t *note);
/* Starts (or waits for) a compute that has D/computes/NAME.json. */
LOCH_STATUS loch_compute_bring_up(struct loch_cluster *c, const char *name, json_t **out);
/* Notes whether `up` shall keep it running, and its PostgreSQL settings when given. */
LOCH_STATUS loch_compute_want(struct loch_cluster *c, const char *name, bool wanted,
                              const char *settings);
/* The agent's own account of itself, when it has written one; else *out is NULL. */
bool loch_agent_state(const json_t *note, json_t **out);
/* Of an agent that has ended: another compute took over its branch, and nobody has asked for this
 * one since (fencing.c). */
bool loch_agent_is_fenced(const json_t *note, const json_t *agent);
/* Whether it has ended by that and was wanted still: it is not any more. */
bool loch_compute_heed_fencing(const struct loch_cluster *c, const char *name);
/* The compute has come up: others of its branch are not wanted any more. */
void loch_compute_taken_over(struct loch_cluster *c, const char *name, const json_t *note);
/* Stops it; ok when it does not run. */
LOCH_STATUS loch_compute_take_down(struct loch_cluster *c, const char *name, bool immediate);
#define LOCH_COMPUTE_STOP_MS 60000
/* The same, a clean stop in timeout_ms, after which it is stopped hard; *living is its process when
 * it is there all the same, else 0. */
LOCH_STATUS loch_compute_end(struct loch_cluster *c, const char *name, bool immediate,
                             int timeout_ms, pid_t *living);
/* Removes what an agent that has died left on the compute's scratch: nothing would use it again,
 * and while its tenant is denied no agent comes that would. kept_log: the log of a server that
 * crashed, too. Nothing happens while the agent lives; what stays is warned about. */
void loch_compute_sweep(const struct loch_cluster *c, const char *name, bool kept_log);
/* Calls fn for every D/computes/NAME.json. */
LOCH_STATUS loch_compute_each(struct loch_cluster *c,
                              loch_status (*fn)(struct loch_cluster *c, const char *name,
                                                void *arg),
                              void *arg);
/* The object `compute list` shows. The caller decrefs. */
LOCH_STATUS loch_compute_describe(struct loch_cluster *c, const char *name, json_t **out);
/* The computes whose branch that is (NULL: any of the tenant, which goes by its name or its id): an
 * array of {name, branch, live}. The caller decrefs. */
LOCH_STATUS loch_attached(struct loch_cluster *c, const char *tenant, const char *branch,
                          json_t **out);
/* Fails naming one of them that runs. */
LOCH_STATUS loch_attached_refuse_live(const json_t *attached);
/* Their branch is gone, and so are they. */
void loch_attached_go(const struct loch_cluster *c, const json_t *attached);
/* Attaches them to the branch `to` from their next start on; read-only ones that look at the branch
 * look at it by its new name. */
LOCH_STATUS loch_attached_move(struct loch_cluster *c, const char *tenant, const char *branch,
                               const char *to);
/* Whether any compute's note names the branch, as the one it stands on or looks at. */
LOCH_STATUS loch_attached_any(struct loch_cluster *c, const char *tenant, const char *branch,
                              bool *any);
/* Nothing is known of a compute, which does not run, any more; its scratch is swept. */
void loch_attached_forget(const struct loch_cluster *c, const char *name);
/* Letters, digits, '-' and '_', 1 to 63 characters. */
LOCH_STATUS loch_name_check(const char *what, const char *name);
/* Prints rows as JSON or as aligned columns. */
void loch_print_rows(const struct loch_cluster *c, const json_t *rows);
void loch_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
