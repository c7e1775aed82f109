-- Uses up transaction ids, multixacts and their members: a few pages of each.
create table if not exists counted (a int primary key, b int);
insert into counted select g, 0 from generate_series(1, 2500) g on conflict do nothing;
create or replace procedure many_commits(n int) language plpgsql as $$
begin for i in 1..n loop insert into counted values (100000 + (random() * 1e8)::int, i) on conflict do nothing;
 commit; end loop; end $$;
call many_commits(1200);
-- each row is locked by the transaction and then updated by a subtransaction of its own: a multixact a row
do $$ begin
 perform 1 from counted where a <= 2500 for key share;
 for i in 1..2500 loop
  begin update counted set b = b + 1 where a = i; exception when division_by_zero then null; end;
 end loop;
end $$;
