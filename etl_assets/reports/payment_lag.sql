-- title: Payment lag against the agreed date
-- answers: Days from the agreed date to the payment date, or to the latest capture if the order is not paid or its
--   payment is not known. Counts orders with an agreed date before the day of the latest capture; refunds are not
--   counted.
-- chart: bar x=lag y=orders series=state stacked=yes facet=kind
-- units: orders: number of orders, one per payment
-- units: percent_of_orders: of orders of this kind
-- units: mean_days: days after the agreed date
WITH agreed AS (
    SELECT 'sale' AS kind, transaction_id, agreed_payment_date
    FROM warehouse.fact_sales_order_current
    LEFT JOIN warehouse.dim_transaction USING (sales_order_id)
    UNION ALL
    SELECT 'purchase', transaction_id, agreed_payment_date
    FROM warehouse.fact_purchase_order_current
    LEFT JOIN warehouse.dim_transaction USING (purchase_order_id)
), payment AS (
    SELECT transaction_id, paid, payment_date
    FROM warehouse.fact_payment_current
    JOIN warehouse.dim_payment_type USING (payment_type_id)
    WHERE payment_type_name IN ('SALES_RECEIPT', 'PURCHASE_PAYMENT')
), lagging AS (
    SELECT kind,
           CASE WHEN paid THEN 'paid' WHEN NOT paid THEN 'not paid' ELSE 'no payment known' END AS state,
           CASE WHEN paid THEN payment_date ELSE newest.day END - agreed_payment_date AS days
    FROM agreed
    LEFT JOIN payment USING (transaction_id)
    CROSS JOIN (SELECT max(captured_at)::date AS day FROM warehouse.loads) newest
    WHERE agreed_payment_date < newest.day
), counted AS (
    SELECT kind, state, days, count(*) AS orders
    FROM lagging
    GROUP BY kind, state, days
), classed AS (
    SELECT *, width_bucket(days, ARRAY[0, 1, 8, 31, 366]) AS class
    FROM counted
)
SELECT kind,
       (ARRAY['before', 'same day', '1 to 7 days', '8 to 30 days', '31 to 365 days', 'over a year'])[class + 1] AS lag,
       state,
       sum(orders) AS orders,
       round(100 * sum(orders) / sum(sum(orders)) OVER (PARTITION BY kind), 1) AS percent_of_orders,
       round(sum(orders * days) / sum(orders), 1) AS mean_days
FROM classed
GROUP BY kind, class, state
ORDER BY kind, class, state
