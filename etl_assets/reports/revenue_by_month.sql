-- title: Revenue by month and currency
-- answers: What did we sell each month, in each currency? The 36 months up to the newest order;
--   the newest month may not be over.
-- chart: line x=month y=revenue series=currency
-- units: revenue: money in the currency of the orders, before refunds
-- units: mean_order_value: money in the currency of the orders
-- units: units: bags
-- units: orders: number of orders
WITH monthly AS (
    SELECT date_trunc('month', created_date)::date AS month,
           currency_id,
           count(*) AS orders,
           sum(units_sold) AS units,
           sum(units_sold * unit_price) AS revenue
    FROM warehouse.fact_sales_order_current
    GROUP BY month, currency_id
)
SELECT month,
       currency_code AS currency,
       orders,
       units,
       revenue,
       round(revenue / orders, 2) AS mean_order_value
FROM monthly
JOIN warehouse.dim_currency USING (currency_id)
WHERE month > (SELECT max(month) - interval '36 months' FROM monthly)
ORDER BY month, currency
