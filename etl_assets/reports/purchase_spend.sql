-- title: Purchase spend by month and counterparty
-- answers: Spend with the top 5 counterparties in each currency, and with all others together, over the 12 months up
--   to the latest purchase order. The last month may be incomplete.
-- chart: bar x=month y=spend series=counterparty stacked=yes facet=currency
-- units: spend: order currency, before refunds
-- units: orders: number of orders
WITH spent AS (
    SELECT date_trunc('month', created_date)::date AS month,
           currency_id,
           counterparty_id,
           count(*) AS orders,
           sum(item_quantity * item_unit_price) AS spend
    FROM warehouse.fact_purchase_order_current
    WHERE created_date >= (SELECT date_trunc('month', max(created_date)) - interval '11 months'
                           FROM warehouse.fact_purchase_order)
    GROUP BY month, currency_id, counterparty_id
), ranked AS (
    SELECT currency_id,
           counterparty_id,
           row_number() OVER (PARTITION BY currency_id ORDER BY sum(spend) DESC, counterparty_id) AS rank
    FROM spent
    GROUP BY currency_id, counterparty_id
)
SELECT month,
       currency_code AS currency,
       least(rank, 6) AS rank,
       CASE WHEN rank <= 5 THEN counterparty_legal_name ELSE 'all others' END AS counterparty,
       sum(orders) AS orders,
       sum(spend) AS spend
FROM spent
JOIN ranked USING (currency_id, counterparty_id)
JOIN warehouse.dim_currency USING (currency_id)
JOIN warehouse.dim_counterparty USING (counterparty_id)
GROUP BY month, currency_code, least(rank, 6), CASE WHEN rank <= 5 THEN counterparty_legal_name ELSE 'all others' END
ORDER BY month, currency, rank
