-- title: Sales order value distribution
-- answers: Number of sales orders by order value, in each currency. Up to 20 classes of equal width, and one without
--   an upper bound for at most the top 1 % of the orders.
-- chart: bar x=value_from y=orders facet=currency
-- units: value_from: order currency
-- units: value_to: order currency
-- units: orders: number of orders
WITH valued AS (
    SELECT currency_id, units_sold * unit_price AS value
    FROM warehouse.fact_sales_order_current
), highest AS (
    SELECT currency_id, percentile_disc(0.99) WITHIN GROUP (ORDER BY value) AS value
    FROM valued
    GROUP BY currency_id
), scale AS (
    SELECT currency_id, width, floor(highest.value / width)::integer + 1 AS classes
    FROM highest
    CROSS JOIN LATERAL (
        SELECT min(digit * 10.0 ^ zeros) AS width
        FROM unnest(ARRAY[1, 2, 5]) digit, generate_series(-2, 15) zeros
        WHERE digit * 10.0 ^ zeros > highest.value / 20
    ) round_number
), counted AS (
    SELECT currency_id, least(floor(value / width)::integer, classes) AS class, count(*) AS orders
    FROM valued
    JOIN scale USING (currency_id)
    GROUP BY currency_id, class
)
SELECT currency_code AS currency,
       (class * width)::numeric(18, 2) AS value_from,
       CASE WHEN class < classes THEN ((class + 1) * width)::numeric(18, 2) END AS value_to,
       coalesce(orders, 0) AS orders,
       round(100.0 * coalesce(orders, 0) / sum(orders) OVER (PARTITION BY currency_id), 2) AS percent_of_orders,
       round(100.0 * sum(coalesce(orders, 0)) OVER (PARTITION BY currency_id ORDER BY class)
             / sum(orders) OVER (PARTITION BY currency_id), 2) AS percent_up_to_here
FROM scale
CROSS JOIN LATERAL generate_series(0, classes) class
LEFT JOIN counted USING (currency_id, class)
JOIN warehouse.dim_currency USING (currency_id)
WHERE class < classes OR orders > 0
ORDER BY currency, value_from
