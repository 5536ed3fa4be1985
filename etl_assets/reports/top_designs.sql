-- title: Top 10 designs by currency
-- answers: The designs with the most revenue in each currency over the 12 months up to the latest order, and their rank
--   by bags sold. Design names are not unique, so the design id is appended.
-- chart: bar x=design y=revenue facet=currency
-- units: revenue: order currency, before refunds
-- units: units: bags
-- units: orders: number of orders
WITH sold AS (
    SELECT currency_id,
           design_id,
           count(*) AS orders,
           sum(units_sold) AS units,
           sum(units_sold * unit_price) AS revenue
    FROM warehouse.fact_sales_order_current
    WHERE created_date > (SELECT max(created_date) - interval '12 months' FROM warehouse.fact_sales_order)
    GROUP BY currency_id, design_id
), ranked AS (
    SELECT *,
           row_number() OVER (PARTITION BY currency_id ORDER BY revenue DESC, design_id) AS rank_by_revenue,
           rank() OVER (PARTITION BY currency_id ORDER BY units DESC) AS rank_by_units,
           round(100 * revenue / nullif(sum(revenue) OVER (PARTITION BY currency_id), 0), 2) AS percent_of_revenue
    FROM sold
)
SELECT currency_code AS currency,
       rank_by_revenue,
       rank_by_units,
       design_name || ' #' || design_id AS design,
       orders,
       units,
       revenue,
       percent_of_revenue
FROM ranked
JOIN warehouse.dim_currency USING (currency_id)
JOIN warehouse.dim_design USING (design_id)
WHERE rank_by_revenue <= 10
ORDER BY currency, rank_by_revenue
