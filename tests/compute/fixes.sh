# Sourced by tests/compute/run: one function per fact of STOCK_POSTGRES. Each prints what it saw; `right` says what a
# stock server would print. The runner runs each with its fix on (must be right) and off (must be wrong).
# `sql` runs statements in one session; `lagging` makes the pageserver lag until a while after the session has made the file
# LAST_READ, by stopping two of the three safekeepers: nothing is committed to the quorum, so sessions use synchronous_commit=off.

right_cid=2000,1990,1989
test_cid() {
    sql <<'Q'
drop table if exists h;
begin;
create table h(a int, pad text) with (autovacuum_enabled=off);
insert into h select g, repeat('x', 100) from generate_series(1, 2000) g;
declare c cursor for select count(*) from h;
insert into h select g, 'y' from generate_series(1, 19) g;
select t.evict('h') \g /dev/null
fetch c;
close c;
delete from h where pad = 'y' or a <= 10;
declare d cursor for select count(*) from h;
update h set pad = 'u' where a between 11 and 20;
delete from h where a = 100;
insert into h values (3000, 'z');
select t.evict('h') \g /dev/null
fetch d;
select count(*) from h where a < 3000 or pad = 'u';
rollback;
Q
}

# One transaction with many commands and savepoints, evicted all the time (small buffers). Without overlays the pages are
# kept, which is right too: the last line tells the two apart.
right_overlay="4000,4000,3989|29,3989,4019,t"
small_overlay=1
test_overlay() {
    sql <<'Q'
drop table if exists h, filler;
select value as before from loch.stats where name = 'cid_overlay_applied' \gset
create table filler as select g a, repeat('z', 900) p from generate_series(1, 1000) g;
begin;
create table h(a int, pad text);
insert into h select g, repeat('x', 500) from generate_series(1, 2000) g;
savepoint s0;
insert into h select a, pad from h limit 1000000;
select count(*) from h;
rollback to s0;
insert into h select g, repeat('x', 500) from generate_series(1, 2000) g;
declare c cursor for select count(*) from h;
insert into h select g, 'y' from generate_series(1, 19) g;
select count(*) from filler \g /dev/null
fetch all in c;
close c;
savepoint s1;
delete from h where a <= 10;
update h set pad = 'u' where a between 11 and 20;
select count(*), count(*) filter (where pad = 'u') from h;
declare d cursor for select count(*) from h;
update h set pad = 'uu' where pad = 'u';
delete from h where a = 100;
select count(*) from filler \g /dev/null
fetch all in d;
rollback to s1;
select count(*) from h;
commit;
select value > :before from loch.stats where name = 'cid_overlay_applied';
Q
}

# A transaction that has more pages than may be remembered: the throttle looks through them once a second, and so may those
# who write pages out, not for each page. Needs small buffers.
right_overlay_full="t,8000,t"
small_overlay_full=1
test_overlay_full() {
    sql <<'Q'
drop table if exists h;
set loch.test_overlay_max = 50;
select value as put from loch.stats where name = 'cid_overlay_put' \gset
select value as scans from loch.stats where name = 'cid_overlay_scans' \gset
begin;
create table h(a int, pad text);
insert into h select g, repeat('x', 900) from generate_series(1, 8000) g;
select value - :scans <= 2 * extract(epoch from clock_timestamp() - now()) + 5 from loch.stats where name = 'cid_overlay_scans';
select count(*) from h;
select value - :put >= 40 from loch.stats where name = 'cid_overlay_put';
commit;
Q
}

right_speculative="1|other updated"
test_speculative() { speculative "select"; }
switch_speculative_checkpoint=speculative right_speculative_checkpoint="1|other updated"
test_speculative_checkpoint() { speculative "checkpoint"; }
speculative() { # WHAT else happens before the page is let go
    sql -v conn="$URL" -v what="$1" <<'Q'
create extension if not exists dblink;
drop table if exists sp;
create table sp(k int, v text);
select set_config('t.conn', :'conn', false), set_config('t.what', :'what', false) \g /dev/null
create or replace function spw() returns void language plpgsql as $f$ begin execute current_setting('t.what'); end $f$;
create or replace function spf(v text, k int) returns int language plpgsql immutable as $f$
begin
  if v = 'main' then
    perform dblink_exec(current_setting('t.conn'), 'insert into sp values ('||k||', ''other'')');
    perform spw();
    perform t.evict('sp');
  end if;
  return k;
end $f$;
create index sp_a on sp(spf(v, k));
create unique index sp_b on sp(k);
insert into sp values (1, 'main') on conflict (k) do update set v = sp.v || ' updated';
select * from sp;
Q
}

# The same with pages that other processes write: those are in no list of running transactions, and this session is its first. A
# transaction that ends after this one began takes away the short cut by which its xid would be the newest of all.
ends() { printf 'savepoint e;\ninsert into k values (1);\nrollback to e;\nrelease e;\n'; }
cid_tables="drop table if exists h, k; create table h(a int, pad text) with (autovacuum_enabled=off); create table k(a int) with (autovacuum_enabled=off);"

switch_cid_checkpoint=cid right_cid_checkpoint=2000,2019
test_cid_checkpoint() {
    sql <<Q
$cid_tables
begin;
insert into h select g, repeat('x', 100) from generate_series(1, 2000) g;
declare c cursor for select count(*) from h;
insert into h select g, 'y' from generate_series(1, 19) g;
$(ends)
checkpoint;
select t.evict('h') \g /dev/null
fetch c;
select count(*) from h;
rollback;
Q
}

# Writes ahead of who needs buffers; the first line: it did.
switch_cid_bgwriter=cid right_cid_bgwriter=t,2000
small_cid_bgwriter=1
test_cid_bgwriter() {
    sql -c "alter system set bgwriter_delay = '10ms'" -c "alter system set bgwriter_lru_maxpages = 1000" \
        -c "alter system set bgwriter_lru_multiplier = 10" -c "select pg_reload_conf()" >/dev/null
    sql <<Q
$cid_tables
set stats_fetch_consistency = none;
select pg_stat_get_bgwriter_buf_written_clean() as before \gset
select set_config('t.before', :'before', false) \g /dev/null
begin;
insert into h select g, repeat('x', 100) from generate_series(1, 2000) g;
declare c cursor for select count(*) from h;
$(ends)
do \$\$
begin
    for i in 1 .. 1000 loop
        insert into h select g, repeat('y', 500) from generate_series(1, 200) g;
        perform pg_sleep(0.01);
        exit when pg_stat_get_bgwriter_buf_written_clean() >= current_setting('t.before')::bigint + 100;
    end loop;
end \$\$;
select pg_stat_get_bgwriter_buf_written_clean() >= :before + 100;
fetch c;
rollback;
Q
    sql -c "alter system reset bgwriter_delay" -c "alter system reset bgwriter_lru_maxpages" \
        -c "alter system reset bgwriter_lru_multiplier" -c "select pg_reload_conf()" >/dev/null
}

# A subtransaction that has ended, begun after one that runs and has more subtransactions than the list of running ones holds. Its
# own top is older than all that runs: the parents of its time are not known any more.
many() { printf 'do $d$ begin for i in 1 .. %d loop begin insert into many values (1); exception when others then raise; end; end loop; end $d$' "$1"; }
switch_cid_subtrans=cid right_cid_subtrans=2,3
test_cid_subtrans() {
    sql <<Q
create extension if not exists dblink;
$cid_tables
select dblink_connect('old', '$URL'), dblink_exec('old', 'create temp table many(a int)') \g /dev/null
create temp table many(a int);
begin;
insert into k values (0);
$(many 70000);
select dblink_exec('old', 'begin'), dblink_exec('old', 'insert into many values (0)'), dblink_exec('old', \$q\$$(many 100)\$q\$) \g /dev/null
savepoint s;
insert into h values (1, 'x');
savepoint s; -- the last answer is remembered
insert into h values (2, 'x');
commit;
begin;
insert into k values (0);
checkpoint;
declare c cursor for select count(*) from h;
insert into h values (3, 'y');
$(ends)
checkpoint;
select t.evict('h') \g /dev/null
fetch c;
select count(*) from h;
rollback;
Q
}

# Overlays of a running transaction are still there when those of one that has ended are gone.
switch_cid_reap=cid right_cid_reap=t,2000,3000
test_cid_reap() {
    sql <<Q
$cid_tables
begin;
insert into h select g, repeat('x', 100) from generate_series(1, 2000) g;
declare c cursor for select count(*) from h;
insert into h select g, repeat('y', 500) from generate_series(1, 1000) g;
select t.evict('h') \g /dev/null
select value as before from loch.stats where name = 'cid_overlay_reaped' \gset
select set_config('t.before', :'before', false) \g /dev/null
savepoint e;
insert into k select g from generate_series(1, 1000) g;
select t.evict('k') \g /dev/null
rollback to e;
release e;
do \$\$
begin
    for i in 1 .. 1000 loop
        exit when (select value > current_setting('t.before')::bigint from loch.stats where name = 'cid_overlay_reaped');
        perform pg_sleep(0.02);
    end loop;
end \$\$;
select value > :before from loch.stats where name = 'cid_overlay_reaped';
fetch c;
select count(*) from h;
rollback;
Q
}

# Needs shared_buffers smaller than the indexes.
right_not_logged=2000,10000,10000,1,1
switch_not_logged=not_logged,born # either keeps the pages of an index that was made just now
small_not_logged=1
test_not_logged() {
    sql <<'Q'
drop table if exists g0;
create table g0 as select g id, point(g%100, g/100) p, array[g%10, g%7, g] a, box(point(g%100,g/100), point(g%100,g/100)) b, 'word'||g w from generate_series(1,20000) g;
create index on g0 using gin(a);
create index on g0 using gist(b);
create index on g0 using gist(p);
create index on g0 using spgist(w);
create index on g0 using hash(id);
create index on g0 (id);
set enable_seqscan=off;
select count(*) from g0 where a @> array[3] and id % 10 = 3;
select count(*) from g0 where b && box '((0,0),(49,300))';
select count(*) from g0 where p <@ box '((0,0),(49,300))';
select count(*) from g0 where w = 'word777';
select count(*) from g0 where id = 777;
Q
}

right_btree_cycle=0,running
test_btree_cycle() {
    sql <<'Q'
create or replace function kk(k int, sfx text default '') returns text language sql immutable as $f$ select lpad(k::text,6,'0')||sfx||repeat(md5(k::text),10) $f$;
drop table if exists c;
create table c(key text) with (autovacuum_enabled=off);
insert into c select kk(g) from generate_series(1,5000) g;
create index ci on c(key);
vacuum c;
delete from c where key >= kk(100) and key < kk(400);
vacuum c;
select txid_current() \g /dev/null
select txid_current() \g /dev/null
vacuum c;
set enable_indexscan=off; set enable_bitmapscan=off; set enable_indexonlyscan=off;
delete from c where key >= kk(4000) and key < kk(4100);
Q
    sql -c "set vacuum_cost_delay=10" -c "set vacuum_cost_limit=1" -c "set vacuum_cost_page_hit=1" -c "set vacuum_cost_page_miss=1" \
        -c "set vacuum_cost_page_dirty=0" -c "vacuum (index_cleanup on, truncate off) c" >/dev/null &
    local vacuum=$! state
    # In one session, for the vacuum does not wait: it has passed the pages that were free, and is not at those that are split.
    state=$(sql <<'Q'
do $$
begin
    for i in 1 .. 2000 loop
        perform pg_stat_clear_snapshot();
        exit when exists (select from pg_stat_progress_vacuum where phase = 'vacuuming indexes');
        perform pg_sleep(0.02);
    end loop;
end $$;
select pg_sleep(0.7) \g /dev/null
insert into c select kk(k, 'z'||s) from generate_series(4000,4099,2) k, generate_series(1,3) s order by random();
select t.evict('ci') \g /dev/null
select case when exists (select from pg_stat_progress_vacuum where phase = 'vacuuming indexes') then 'running' else 'over' end;
Q
    )
    wait "$vacuum"
    sql <<'Q'
insert into c select kk(900000+g) from generate_series(1,2000) g;
set enable_seqscan=off; set enable_bitmapscan=off; set enable_indexonlyscan=off;
select count(*) from generate_series(4000,4099) g, lateral (select * from c where key = kk(g) and ctid is not null offset 0) x;
Q
    echo "$state"
}

# A table whose pages are all visible, seen through an index-only scan, while the pageserver lags.
visible_table() {
    sql <<'Q'
drop table if exists v;
create table v(a int primary key, t text) with (autovacuum_enabled=off);
insert into v select g, 'x' from generate_series(1,1000) g;
vacuum pg_class; vacuum pg_statistic; analyze v;
Q
}
right_all_visible=999
test_all_visible() {
    visible_table
    sql -c "select count(*) from v" -c "explain vacuum v" >/dev/null 2>&1
    lagging
    sql <<'Q'
set synchronous_commit=off;
set enable_seqscan=off; set enable_bitmapscan=off;
vacuum v;
select t.evict('v');
\! touch "$LAST_READ"
delete from v where a = 5;
select t.evict('v');
select count(*) from v where a > 0;
Q
}
right_vm=1000,999
test_vm() {
    visible_table
    sql -c "vacuum v"
    sql <<'Q'
set enable_seqscan=off; set enable_bitmapscan=off;
select count(*) from v where a > 0;
Q
    lagging
    sql <<'Q'
set synchronous_commit=off;
set enable_seqscan=off; set enable_bitmapscan=off;
delete from v where a = 5;
select t.evict('v');
\! touch "$LAST_READ"
select count(*) from v where a > 0;
Q
}

# Pauses between the change of a page and its record: a map's page that is written meanwhile has neither the record's LSN nor a
# reason to be newer than what storage has. Counts by index-only, index and sequential scan.
paused() { [ "$(sql -c "select t.is_paused()")" = t ]; }
counts() {
    sql -c "select t.evict_map('v')" \
        -c "set enable_seqscan=off" -c "set enable_bitmapscan=off" -c "select count(*) from v where a > 0" \
        -c "set enable_indexonlyscan=off" -c "select count(*) from v where a > 0" \
        -c "set enable_indexscan=off" -c "set enable_seqscan=on" -c "select count(*) from v where a > 0"
}
pausing() { # RMID INFO STATEMENT: stopped in the statement, the map is written; then it goes on, and storage does not hear of it
    sql -c "select t.write_map('v')" -c "select count(*) from v where a = 1" >/dev/null
    sql -c "set synchronous_commit=off" -c "select t.pause_at($1, $2)" -c "$3" >/dev/null &
    local writer=$!
    wait_until 20 paused || { echo "not paused"; wait "$writer"; return 0; }
    sql -c "select txid_current()" >/dev/null # its commit flushes what was logged up to the pause
    hold_storage
    sql -c "select t.write_map('v')" -c "select t.resume()" >/dev/null
    wait "$writer" || true
}
switch_paused_delete=vm right_paused_delete=1000,1000,1000,999,999,999
test_paused_delete() {
    visible_table
    sql -c "vacuum v"
    counts
    pausing 10 16 "delete from v where a = 5" # RM_HEAP_ID, XLOG_HEAP_DELETE
    counts
    let_storage_go
}
# The old row's page is the first one, the new row lies on the last: two bits are cleared.
switch_paused_update=vm right_paused_update=1000,1000,1000,999,999,999
test_paused_update() {
    visible_table
    sql -c "vacuum v"
    counts
    pausing 10 32 "update v set a = -1, t = repeat('y', 3000) where a = 5" # XLOG_HEAP_UPDATE
    counts
    let_storage_go
}
# VACUUM cuts the pages of rows above 300 off; their bits are cleared before the record. New rows lie there, some deleted.
switch_paused_truncate=vm right_paused_truncate=1000,1000,1000,900,900,900
test_paused_truncate() {
    visible_table
    sql -c "vacuum v"
    counts
    sql -c "delete from v where a > 300"
    pausing 2 32 "vacuum v" # RM_SMGR_ID, XLOG_SMGR_TRUNCATE
    sql -c "set synchronous_commit=off" -c "insert into v select g, 'x' from generate_series(301, 1000) g" -c "delete from v where a > 900"
    counts
    let_storage_go
}
# VACUUM sets bits under the map's lock and the page's, so nobody can write either before the record; the page's flag, though, has no
# LSN that moves, and the record is one that storage does not know of yet when the page comes back from there.
switch_paused_set=all_visible right_paused_set=1000,1000,1000,999,999,999
test_paused_set() {
    visible_table
    sql -c "set synchronous_commit=off" -c "select t.pause_at(9, 64)" -c "vacuum v" >/dev/null & # RM_HEAP2_ID, XLOG_HEAP2_VISIBLE
    local writer=$!
    wait_until 20 paused || { echo "not paused"; wait "$writer"; return 0; }
    sql -c "select txid_current()" >/dev/null
    lagging
    sql -c "select t.resume()" >/dev/null
    wait "$writer" || true
    sql -c "select t.write_map('v')" -c "select t.evict('v')" >/dev/null
    touch "$LAST_READ"
    counts
    sql -c "set synchronous_commit=off" -c "delete from v where a = 5" -c "select t.write_map('v')" >/dev/null
    counts
}

right_truncate=0,0
test_truncate() {
    sql <<'Q'
drop table if exists tz;
create table tz(a int, t text) with (autovacuum_enabled=off);
insert into tz select g, repeat('o',500) from generate_series(1,100) g;
select t.evict('tz');
select count(*) from tz \g /dev/null
Q
    lagging
    sql <<'Q'
set synchronous_commit=off;
delete from tz;
vacuum tz;
select pg_relation_size('tz')/8192;
select t.extend_zero('tz'), t.extend_zero('tz') \g /dev/null
select t.evict('tz');
\! touch "$LAST_READ"
select count(*) from tz;
Q
}

# A page that was asked for ahead and waits at the pageserver, while more others are read than there are slots for their ids.
small_overtaken=1
right_overtaken=700
test_overtaken() {
    sql <<'Q'
drop table if exists oa, ob, oc;
create table oa(id int, v int, pad text) with (autovacuum_enabled=off, fillfactor=80);
create table ob(id int, pad text) with (autovacuum_enabled=off);
create table oc(id int, pad text) with (autovacuum_enabled=off);
insert into oa select g, 0, repeat('o', 900) from generate_series(1, 700) g;
insert into ob select g, repeat('o', 900) from generate_series(1, 12000) g;
insert into oc select g, repeat('o', 900) from generate_series(1, 400) g;
select t.evict('oa'), t.evict('ob'), t.evict('oc') \g /dev/null
Q
    lagging
    sql <<'Q'
set synchronous_commit=off;
update oa set v = 1 where ctid = '(40,1)';
select t.evict('oa') \g /dev/null
begin;
declare c scroll cursor for select id from oa;
fetch 150 from c \g /dev/null
select count(*) from ob \g /dev/null
\! touch "$LAST_READ"
select pg_sleep(4) \g /dev/null
select count(*) from oc \g /dev/null
set local statement_timeout = '10s';
fetch last from c;
Q
}

# Pages asked for ahead, changed by another session before they are read.
# Asked for ahead while a buffer holds it, changed twice by one transaction, and then put into its file.
right_kept=1,2
test_kept() {
    sql <<'Q'
drop table if exists ka;
create table ka(id int, v int, pad text) with (autovacuum_enabled=off, fillfactor=50);
insert into ka select g, 0, repeat('k', 1000) from generate_series(1, 300) g;
select t.evict('ka') \g /dev/null
begin;
update ka set v = 1 where ctid = '(8,1)';
declare d cursor for select max(v) from ka;
update ka set v = 2 where ctid = '(8,4)';
select count(*) from ka where ctid < '(6,0)' \g /dev/null
select t.evict('ka') \g /dev/null
fetch d;
close d;
select max(v) from ka;
commit;
Q
}

right_readahead=700,t
test_readahead() {
    sql -v url="$URL" <<'Q'
drop table if exists ra;
create table ra(id int, v int, pad text) with (autovacuum_enabled=off);
insert into ra select g, 0, repeat('r', 1000) from generate_series(1, 700) g;
select t.evict('ra') \g /dev/null
set enable_indexscan = off;
select count(*) from ra where ctid < '(6,0)' \g /dev/null
\setenv OTHER :url
\! psql "$OTHER" -Xqc "update ra set v = 1 where ctid = '(8,1)'" -c "select t.evict('ra')" -o /dev/null
select count(*) from ra;
select value > 10 from loch.stats where name = 'read_ahead_used';
Q
}

# A page that changes while an older copy of it lies in the local cache; the second line: it was found there.
right_cache=500,t,0,500,600
cached_cache=1
test_cache() {
    sql <<'Q'
drop table if exists lc;
create table lc(a int, t text) with (autovacuum_enabled=off);
insert into lc select g, repeat('l', 200) from generate_series(1, 500) g;
select t.evict('lc') \g /dev/null
select value as before from loch.stats where name = 'cache_hit' \gset
select count(*) from lc where length(t) = 200;
select value > :before + 10 from loch.stats where name = 'cache_hit';
update lc set t = 'n';
select t.evict('lc') \g /dev/null
select count(*) from lc where length(t) = 200;
select count(*) from lc;
truncate lc;
insert into lc select g, 'v' from generate_series(1, 600) g;
select t.evict('lc') \g /dev/null
select count(*) from lc;
Q
}

# A page read past the buffers, which waits for storage while the page is kept in its file: what comes then is not the page. Its
# last-written LSN stays what it was, that of a change of databases. The first line: the reader waited. What runs while storage is
# stopped has run before.
switch_cache_read=cache right_cache_read=t,1,2
cached_cache_read=1
test_cache_read() {
    local storage
    storage=$(daemon_pid pageserver)
    cat >"$WORK/reader.sql" <<Q
select pg_prewarm('k', 'read') \g /dev/null
\! kill -STOP $storage
select pg_prewarm('h', 'read') \g /dev/null
Q
    sql <<Q
create extension if not exists pg_prewarm;
$cid_tables
insert into k values (1);
create or replace function reader_is(wanted text) returns bool language plpgsql as \$\$
declare state text;
begin
    for i in 1 .. 1000 loop
        perform pg_stat_clear_snapshot();
        select coalesce(wait_event, '') || substring(query from '''.''') into state from pg_stat_activity where application_name = 'reader';
        if coalesce(state, 'over') = wanted then return true; end if;
        perform pg_sleep(0.02);
    end loop;
    return false;
end \$\$;
begin;
insert into h values (1, 'x');
declare c cursor for select count(*) from h;
insert into h values (2, 'x');
alter database postgres connection limit -1;
select reader_is('over'), t.evict('k') \g /dev/null
\! PGAPPNAME=reader psql "$URL" -X -f "$WORK/reader.sql" >"$WORK/reader.out" 2>&1 &
select reader_is('Extension''h''');
select t.evict('h') \g /dev/null
\! kill -CONT $storage
select reader_is('over') \g /dev/null
fetch c;
select count(*) from h;
rollback;
Q
    kill -CONT "$storage"
    cat "$WORK/reader.out"
}

right_sequence=4
test_sequence() {
    sql <<'Q'
drop sequence if exists sq;
create sequence sq;
select nextval('sq'), nextval('sq'), nextval('sq') \g /dev/null
select t.evict('sq');
select nextval('sq');
Q
}

# After a restart an unlogged table is empty and usable. Without the rule its pages would still be kept (they are never
# logged), but as pages of a permanent relation: the third line tells.
right_unlogged=1000,t,0,1
test_unlogged() {
    sql <<'Q'
drop table if exists ul;
select value from loch.stats where name = 'local_write' \gset
create unlogged table ul(a int primary key, t text);
insert into ul select g, repeat('u',100) from generate_series(1,1000) g;
select t.evict('ul'), t.evict('ul_pkey') \g /dev/null
select count(*) from ul;
select value > :value + 10 from loch.stats where name = 'local_write';
Q
    restart_compute
    sql <<'Q'
select count(*) from ul;
insert into ul values (1, 'again');
set enable_seqscan = off;
select count(*) from ul where a = 1;
Q
}

right_temp=20000
test_temp() {
    sql <<'Q'
set temp_buffers = 100;
create temp table te(a int, t text);
insert into te select g, repeat('t',100) from generate_series(1,20000) g;
select count(*) from te;
Q
}

right_fsm=t
test_fsm() {
    sql <<'Q'
create extension if not exists pg_freespacemap;
drop table if exists fs;
create table fs(a int, t text) with (autovacuum_enabled=off);
insert into fs select g, repeat('f',100) from generate_series(1,10000) g;
delete from fs where a % 3 = 0;
vacuum fs;
select t.evict('fs');
select count(*) > 100 from pg_freespace('fs') where avail > 0;
Q
}

right_collision="in use"
test_collision() {
    sql -c "drop table if exists taken" -c "create table taken as select 1 a"
    local number
    number=$(sql -c "select relfilenode from pg_class where relname = 'taken'")
    restart_compute
    sql -c "select t.use_file_number($number)" 2>&1 | grep -q "is in use on the pageserver" && echo "in use" || echo "not noticed"
}

right_sizes=t,t,t,t,t
test_sizes() { sizes off; }
# Compiled code finds a function by its symbol, not in the table of built-in ones.
switch_sizes_jit=sizes right_sizes_jit=t,t,t,t,t
test_sizes_jit() {
    [ "$(sql -c "select pg_jit_available()")" = t ] || echo "llvmjit.so is not installed"
    sizes on
}
sizes() { # JIT
    restart_compute # the functions are replaced, or not, at the start
    sql <<'Q'
drop table if exists sz;
create table sz(a int primary key, t text);
insert into sz select g, repeat(md5(g::text), 300) from generate_series(1,300) g;
alter table sz alter t set storage external;
insert into sz select g, repeat(md5(g::text), 300) from generate_series(1001,1300) g;
drop table if exists sizes_before;
create table sizes_before as select pg_relation_size('sz') r, pg_table_size('sz') t, pg_indexes_size('sz') i, pg_total_relation_size('sz') x,
    pg_tablespace_size('pg_default') s;
Q
    restart_compute
    sql -v jit="$1" <<'Q' | tr '|' ','
set jit = :jit; set jit_above_cost = 0; set jit_inline_above_cost = 0; set jit_optimize_above_cost = 0;
select pg_relation_size('sz') = r, pg_table_size('sz') >= t - 65536, pg_indexes_size('sz') = i, pg_total_relation_size('sz') >= x - 65536,
    pg_tablespace_size('pg_default') between s - 2000000 and s + 2000000 from sizes_before;
Q
}

# After a crash an unlogged index begins as its init fork was logged, with an LSN. Moved, its pages come to the new file before
# the new init fork does, and look as if they could be had again.
right_born=1,1,1
test_born() {
    sql -c "set allow_in_place_tablespaces = on" -c "drop table if exists born" -c "create tablespace born_ts location ''" 2>/dev/null
    sql -c "create unlogged table born (id int primary key, h int, a int[])" -c "create index born_h on born using hash (h)" -c "create index born_a on born using gin (a)"
    restart_compute
    sql <<'Q'
insert into born select g, g, array[g] from generate_series(1, 2000) g;
alter index born_pkey set tablespace born_ts;
alter index born_h set tablespace born_ts;
alter index born_a set tablespace born_ts;
set enable_seqscan = off;
select t.evict('born_pkey'), t.evict('born_h'), t.evict('born_a') \g /dev/null
select count(*) from born where id = 777;
select count(*) from born where h = 777;
select count(*) from born where a @> array[777];
Q
}

# That it was moved is known to the end, whatever others make the server forget meanwhile.
right_born_kept=1
switch_born_kept=born
test_born_kept() {
    sql <<'Q'
select value as before from loch.stats where name = 'spill_not_logged' \gset
select t.copy_amid_forgetting() \g /dev/null
select value - :before from loch.stats where name = 'spill_not_logged';
Q
}
