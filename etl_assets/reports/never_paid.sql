-- title: Unpaid payments by due weekday
-- answers: Share of due payments that were never marked as paid, by weekday of the due date and by whether the payment
--   was created before, on or after it. Counts payments due before the day of the latest capture.
-- chart: bar x=weekday y=never_paid_percent series=made
-- units: due: number of payments
-- units: never_paid: number of payments
-- units: never_paid_percent: of payments due
-- units: percent_of_all_never_paid: of all unpaid payments
WITH counted AS (
    SELECT payment_date, created_date, count(*) AS due, count(*) FILTER (WHERE NOT paid) AS never_paid
    FROM warehouse.fact_payment_current
    WHERE payment_date < (SELECT max(captured_at)::date FROM warehouse.loads)
    GROUP BY payment_date, created_date
)
SELECT day_name AS weekday,
       CASE
           WHEN created_date < payment_date THEN 'before the day it is due'
           WHEN created_date = payment_date THEN 'on the day it is due'
           ELSE 'after the day it is due'
       END AS made,
       sum(due) AS due,
       sum(never_paid) AS never_paid,
       round(100 * sum(never_paid) / sum(due), 1) AS never_paid_percent,
       round(100 * sum(never_paid) / nullif(sum(sum(never_paid)) OVER (), 0), 1) AS percent_of_all_never_paid
FROM counted
JOIN warehouse.dim_date ON date_id = payment_date
GROUP BY day_of_week, day_name, made
ORDER BY day_of_week, made
