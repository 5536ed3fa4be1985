-- Which payments were due and never marked as paid?
SELECT payment_type_name AS kind,
       count(*) AS due,
       count(*) FILTER (WHERE NOT paid) AS unpaid,
       round(100.0 * count(*) FILTER (WHERE NOT paid) / count(*), 1) AS unpaid_percent
FROM warehouse.fact_payment_current
JOIN warehouse.dim_payment_type USING (payment_type_id)
WHERE payment_date < (SELECT max(created_date) FROM warehouse.fact_payment)
GROUP BY payment_type_name
ORDER BY payment_type_name;
