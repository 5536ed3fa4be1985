-- title: Warehouse contents and freshness
-- answers: Size, loaded rows and latest change of each star table, and the age of the latest capture and load. Days
--   are UTC.
-- chart: bar x=star_table y=loaded horizontal=yes
-- units: loaded: rows inserted or replaced since the first load
-- units: loaded_today: rows
-- units: loaded_last_7_days: rows
-- units: kilobytes: on disk, including versions and indexes
-- units: newest_capture_age: minutes
-- units: newest_load_age: minutes
WITH loaded AS (
    SELECT key AS star_table,
           sum(value::bigint) AS loaded,
           sum(value::bigint) FILTER (WHERE loaded_at >= date_trunc('day', least(now() AT TIME ZONE 'UTC', as_of.moment()))) AS today,
           sum(value::bigint) FILTER (WHERE loaded_at > least(now() AT TIME ZONE 'UTC', as_of.moment()) - interval '7 days') AS last_7_days,
           max(captured_at)::timestamp(0) AS last_changed
    FROM warehouse.loads
    CROSS JOIN LATERAL jsonb_each_text(changed)
    GROUP BY key
), newest AS (
    SELECT floor(extract(epoch FROM least(now() AT TIME ZONE 'UTC', as_of.moment()) - max(captured_at)) / 60) AS capture_age,
           floor(extract(epoch FROM least(now() AT TIME ZONE 'UTC', as_of.moment()) - max(loaded_at)) / 60) AS load_age
    FROM warehouse.loads
)
SELECT star.relname::text AS star_table,
       coalesce(loaded, 0) AS loaded,
       coalesce(today, 0) AS loaded_today,
       coalesce(last_7_days, 0) AS loaded_last_7_days,
       last_changed,
       (pg_total_relation_size(star.oid) + coalesce(pg_total_relation_size(versions.oid), 0)) / 1000 AS kilobytes,
       capture_age AS newest_capture_age,
       load_age AS newest_load_age
FROM pg_class star
LEFT JOIN pg_class versions
       ON versions.relnamespace = star.relnamespace AND versions.relname = star.relname || '_versions'
LEFT JOIN loaded ON star_table = star.relname
CROSS JOIN newest
WHERE star.relnamespace = 'warehouse'::regnamespace AND star.relkind = 'r'
  AND star.relname ~ '^(dim|fact)_' AND star.relname !~ '_versions$'
ORDER BY star_table
