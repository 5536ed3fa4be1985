-- title: Sales by country
-- answers: Sales by country of the buyer's legal address, over the 12 months up to the latest order. The top 15
--   countries by revenue in each currency.
-- chart: bar x=country y=revenue facet=currency
-- units: revenue: order currency, before refunds
-- units: units: bags
-- units: orders: number of orders
WITH sold AS (
    SELECT currency_id,
           counterparty_legal_country AS country,
           count(DISTINCT counterparty_id) AS companies,
           count(*) AS orders,
           sum(units_sold) AS units,
           sum(units_sold * unit_price) AS revenue
    FROM warehouse.fact_sales_order_current
    JOIN warehouse.dim_counterparty USING (counterparty_id)
    WHERE created_date > (SELECT max(created_date) - interval '12 months' FROM warehouse.fact_sales_order)
    GROUP BY currency_id, country
), ranked AS (
    SELECT *,
           row_number() OVER (PARTITION BY currency_id ORDER BY revenue DESC, country) AS rank,
           round(100 * revenue / nullif(sum(revenue) OVER (PARTITION BY currency_id), 0), 2) AS percent_of_revenue
    FROM sold
)
SELECT currency_code AS currency,
       rank,
       country,
       companies,
       orders,
       units,
       revenue,
       percent_of_revenue
FROM ranked
JOIN warehouse.dim_currency USING (currency_id)
WHERE rank <= 15
ORDER BY currency, rank
