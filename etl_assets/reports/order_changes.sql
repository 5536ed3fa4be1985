-- title: Order changes after creation
-- answers: Edits by column, found by comparing consecutive captured versions of each order. Edits before the first
--   capture, or reverted before the next one, are not counted. Silent edits leave last_updated unchanged. Edits of the
--   column deleted are orders deleted in totesys.
-- chart: bar x=edited_column y=edits series=orders_of
-- units: edits: number of edits
-- units: silent_edits: number of edits
-- units: orders: number of edited orders
WITH versions AS (
    SELECT 'sales' AS orders_of, before.sales_order_id AS id, after.captured_at AS seen_at,
           (before.last_updated_date, before.last_updated_time) = (after.last_updated_date, after.last_updated_time)
               AS silent,
           to_jsonb(before) AS before, to_jsonb(after) AS after
    FROM warehouse.fact_sales_order_history before
    JOIN warehouse.fact_sales_order after
        ON after.sales_order_id = before.sales_order_id AND after.captured_at = before.valid_to
    WHERE before.valid_to < 'infinity'
    UNION ALL
    SELECT 'purchase', before.purchase_order_id, after.captured_at,
           (before.last_updated_date, before.last_updated_time) = (after.last_updated_date, after.last_updated_time),
           to_jsonb(before), to_jsonb(after)
    FROM warehouse.fact_purchase_order_history before
    JOIN warehouse.fact_purchase_order after
        ON after.purchase_order_id = before.purchase_order_id AND after.captured_at = before.valid_to
    WHERE before.valid_to < 'infinity'
), edits AS (
    SELECT orders_of, id, seen_at, silent, key AS edited_column,
           CASE WHEN key LIKE '%\_id' THEN NULL
                WHEN jsonb_typeof(value) = 'number' THEN '% of the value before'
                WHEN key LIKE '%\_date' THEN 'days' END AS change_unit,
           before -> key AS old, value AS new
    FROM versions
    CROSS JOIN LATERAL jsonb_each(after)
    WHERE value <> before -> key
      AND key NOT IN ('sales_record_id', 'purchase_record_id', 'captured_at', 'last_updated_date', 'last_updated_time')
), sized AS (
    SELECT *,
           CASE change_unit
               WHEN 'days' THEN abs((new #>> '{}')::date - (old #>> '{}')::date)
               WHEN '% of the value before' THEN 100 * abs((new #>> '{}')::numeric / nullif((old #>> '{}')::numeric, 0) - 1)
           END AS change
    FROM edits
)
SELECT orders_of,
       edited_column,
       count(*) AS edits,
       count(*) FILTER (WHERE silent) AS silent_edits,
       count(DISTINCT id) AS orders,
       round(avg(change), 1) AS mean_change,
       round(max(change), 1) AS largest_change,
       change_unit,
       min(seen_at)::timestamp(0) AS first_seen_at,
       max(seen_at)::timestamp(0) AS last_seen_at
FROM sized
GROUP BY orders_of, edited_column, change_unit
ORDER BY edits DESC, orders_of, edited_column
