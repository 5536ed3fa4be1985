-- title: Revenue by month and currency
-- answers: Sales revenue over the 36 months up to the latest order. The last month may be incomplete.
-- chart: line x=month y=revenue series=currency
-- units: revenue: order currency, before refunds
-- units: mean_order_value: order currency
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
