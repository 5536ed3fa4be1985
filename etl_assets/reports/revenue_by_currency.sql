-- What did we sell last month, by currency?
SELECT currency_code AS currency,
       count(*) AS orders,
       sum(units_sold) AS units,
       sum(units_sold * unit_price) AS revenue
FROM warehouse.fact_sales_order_current
JOIN warehouse.dim_currency USING (currency_id)
WHERE created_date >= (SELECT date_trunc('month', max(created_date)) - interval '1 month' FROM warehouse.fact_sales_order)
  AND created_date < (SELECT date_trunc('month', max(created_date)) FROM warehouse.fact_sales_order)
GROUP BY currency_code
ORDER BY revenue DESC;
