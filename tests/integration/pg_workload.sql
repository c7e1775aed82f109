-- Reaches as many kinds of WAL records as stock PostgreSQL writes without an extension's help.
\set ON_ERROR_STOP 1
set client_min_messages = warning;
set statement_timeout = '30s';
create extension if not exists btree_gist;
create extension if not exists bloom;
create table stock (id bigint generated always as identity primary key, qty int, name text,
                    place point, tags int[], at timestamptz default now()) with (fillfactor = 85);
create index stock_qty on stock (qty);
create index stock_name_hash on stock using hash (name);
create index stock_tags on stock using gin (tags);
create index stock_place on stock using gist (place);
create index stock_place_sp on stock using spgist (place);
create index stock_name_sp on stock using spgist (name);
create index stock_brin on stock using brin (id) with (pages_per_range = 4);
create index stock_bloom on stock using bloom (qty, name);
insert into stock (qty, name, place, tags)
  select g % 700, md5((g % 3000)::text), point(g % 331, g % 173), array[g % 97, g % 53]
  from generate_series(1, 9000) g;
update stock set qty = qty + 1 where id % 9 = 0;
update stock set at = now() where id % 4 = 0;
update stock set name = name || 'z', place = point(id % 17, id % 71) where id % 13 = 0;
delete from stock where id % 5 = 0;
vacuum stock;
select brin_summarize_new_values('stock_brin');
select brin_desummarize_range('stock_brin', 4);
insert into stock (qty, name, place, tags)
  select g, 'late' || g, point(g, g), array[g % 7] from generate_series(1, 2500) g;
vacuum (freeze) stock;
-- bits of the visibility map cleared in every way
update stock set qty = -1 where id % 101 = 0;
delete from stock where id % 103 = 0;
begin; select count(*) from (select 1 from stock where id % 107 = 0 for update) s; commit;
begin; select count(*) from (select 1 from stock where id % 109 = 0 for key share) s;
savepoint a; update stock set at = now() where id % 109 = 0; savepoint b;
delete from stock where id % 1090 = 0; rollback to b; commit;
begin; savepoint a; insert into stock (qty) values (1); rollback to a; abort;
vacuum (freeze, index_cleanup on) stock;
delete from stock where id > 6000;
vacuum (truncate) stock;
insert into stock (qty, name) select g, 'again' from generate_series(1, 500) g;
-- a tail cut off, with and without the visibility map's last page
create table shrinks (a int, b text) with (autovacuum_enabled = off);
insert into shrinks select g, repeat('s', 900) from generate_series(1, 5000) g;
vacuum (freeze) shrinks;
delete from shrinks where a > 1500; vacuum (truncate) shrinks;
insert into shrinks select g, repeat('t', 900) from generate_series(1, 300) g;
vacuum shrinks; delete from shrinks; vacuum (truncate) shrinks;
-- speculative insertion, toast, large values
create table kv (k int primary key, v text);
insert into kv select g, repeat(md5(g::text), 200) from generate_series(1, 300) g;
insert into kv select g, 'x' from generate_series(250, 400) g on conflict (k) do update set v = excluded.v;
insert into kv select 1, 'x' on conflict do nothing;
update kv set v = repeat(md5(random()::text), 3000) where k < 20;
cluster stock using stock_pkey;
reindex table stock;
truncate kv;
alter table stock set (autovacuum_enabled = off);
copy stock (qty, name) to '/dev/null';
-- catalogs: mapped relations, sequences, unlogged, materialised
vacuum full pg_class;
reindex table pg_database;
create sequence s; select count(nextval('s')) from generate_series(1, 100);
create unlogged table u (a int primary key); insert into u select generate_series(1, 100);
create materialized view mv as select qty, count(*) n from stock group by 1;
refresh materialized view mv;
create table parted (a int) partition by range (a);
create table parted1 partition of parted for values from (0) to (100);
insert into parted select g from generate_series(1, 99) g;
drop table parted;
-- many subtransactions, so that they fill more than one entry
do $$ begin for i in 1..300 loop begin insert into kv values (i, 'sub'); exception when others then null; end;
 end loop; end $$;
do $$ begin for i in 1..90 loop begin insert into kv values (i, 'dup'); exception when unique_violation then null;
 end; end loop; end $$;
-- two-phase
begin; insert into kv values (5001, 'p'); create table p1 (a int); prepare transaction 'one'; commit prepared 'one';
begin; insert into kv values (5002, 'p'); drop table p1; savepoint q; insert into kv values (5003, 'q');
prepare transaction 'two'; rollback prepared 'two';
-- origins, messages
select pg_replication_origin_create('elsewhere');
select pg_replication_origin_create('gone');
select pg_replication_origin_advance('gone', '0/77');
select pg_replication_origin_drop('gone');
select pg_replication_origin_session_setup('elsewhere');
begin; select pg_replication_origin_xact_setup('0/4711', now()); insert into kv values (6000, 'o'); commit;
select pg_replication_origin_advance('elsewhere', '0/4712') where false;
select pg_replication_origin_session_reset();
select pg_logical_emit_message(true, 'a', 'b');
select pg_logical_emit_message(false, 'big', repeat('x', 70000));
-- databases and tablespaces
create database d1 strategy wal_log;
create database d2 strategy file_copy;
set allow_in_place_tablespaces = on;
create tablespace ts location '';
create table in_ts (a int) tablespace ts; insert into in_ts values (1);
alter database d2 set tablespace ts;
drop database d2; drop database d1;
drop table in_ts; drop tablespace ts;
create index concurrently kv_v on kv (left(v, 20));
alter table kv alter column v type text using v || '';
create table kept (a int);
begin; insert into kept values (5004); prepare transaction 'stays';
select pg_create_restore_point('here');
select pg_switch_wal();
checkpoint;
insert into kv select g, 'tail' from generate_series(10000, 10500) g;
