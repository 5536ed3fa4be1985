-- title: Top 5 sales staff by quarter
-- answers: The staff with the most revenue in each currency, over the 4 quarters up to the latest order. The last
--   quarter may be incomplete. rank_before is the rank in the previous quarter, if any.
-- chart: bar x=staff y=revenue facet=league
-- units: revenue: order currency, before refunds
-- units: units: bags
-- units: orders: number of orders
WITH sold AS (
    SELECT date_trunc('quarter', created_date)::date AS first_day,
           currency_id,
           sales_staff_id AS staff_id,
           count(*) AS orders,
           sum(units_sold) AS units,
           sum(units_sold * unit_price) AS revenue
    FROM warehouse.fact_sales_order_current
    WHERE created_date >= (SELECT date_trunc('quarter', max(created_date)) - interval '12 months'
                           FROM warehouse.fact_sales_order)
    GROUP BY first_day, currency_id, sales_staff_id
), ranked AS (
    SELECT *, rank() OVER (PARTITION BY first_day, currency_id ORDER BY revenue DESC) AS rank
    FROM sold
)
SELECT to_char(now.first_day, 'YYYY "Q"Q ') || currency_code AS league,
       to_char(now.first_day, 'YYYY "Q"Q') AS quarter,
       currency_code AS currency,
       now.rank,
       before.rank AS rank_before,
       first_name || ' ' || last_name AS staff,
       department_name AS department,
       now.orders,
       now.units,
       now.revenue
FROM ranked now
LEFT JOIN ranked before
    ON before.staff_id = now.staff_id
    AND before.currency_id = now.currency_id
    AND before.first_day = now.first_day - interval '3 months'
JOIN warehouse.dim_currency ON dim_currency.currency_id = now.currency_id
JOIN warehouse.dim_staff ON dim_staff.staff_id = now.staff_id
WHERE now.rank <= 5
  AND now.first_day > (SELECT max(first_day) - interval '12 months' FROM sold)
ORDER BY now.first_day DESC, currency, now.rank, now.staff_id
