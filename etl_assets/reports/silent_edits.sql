-- Which sales orders were changed after they were made, without a trace in last_updated?
SELECT sales_order_id AS sales_order,
       count(*) AS versions,
       string_agg(units_sold || ' at ' || unit_price, ' -> ' ORDER BY captured_at) AS units_and_price,
       max(captured_at)::timestamp(0) AS seen_at
FROM warehouse.fact_sales_order
GROUP BY sales_order_id
HAVING count(*) > count(DISTINCT (last_updated_date, last_updated_time))
ORDER BY seen_at DESC, sales_order
LIMIT 5;
