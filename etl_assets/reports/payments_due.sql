-- title: Payments due by outcome
-- answers: Payments paid on the due date, early, late or never. Counts payments due before the day of the latest
--   capture. The time of payment is the last_updated of the first paid version; if that is still the creation time,
--   the day is unknown.
-- chart: bar x=currency y=payments series=outcome stacked=yes facet=kind
-- units: payments: number of payments
-- units: percent_of_payments: of payments due of this kind in this currency
-- units: amount: payment currency
-- units: mean_days_late: payments with a known day of payment
WITH marked AS (
    SELECT payment_id, min(last_updated_date + last_updated_time) AS marked_at
    FROM warehouse.fact_payment
    WHERE paid
    GROUP BY payment_id
), due AS (
    SELECT payment_type_id,
           currency_id,
           payment_amount,
           CASE
               WHEN NOT paid THEN 'never paid'
               WHEN marked_at = created_date + created_time THEN 'paid, day unknown'
               WHEN marked_at::date < payment_date THEN 'paid early'
               WHEN marked_at::date = payment_date THEN 'paid on the day'
               ELSE 'paid late'
           END AS outcome,
           marked_at::date - payment_date AS days_late
    FROM warehouse.fact_payment_current
    LEFT JOIN marked USING (payment_id)
    WHERE payment_date < (SELECT max(captured_at)::date FROM warehouse.loads)
), counted AS (
    SELECT payment_type_id,
           currency_id,
           outcome,
           count(*) AS payments,
           sum(payment_amount) AS amount,
           avg(days_late) FILTER (WHERE outcome NOT IN ('never paid', 'paid, day unknown')) AS days_late
    FROM due
    GROUP BY payment_type_id, currency_id, outcome
)
SELECT payment_type_name AS kind,
       currency_code AS currency,
       outcome,
       payments,
       round(100.0 * payments / sum(payments) OVER (PARTITION BY payment_type_id, currency_id), 1)
           AS percent_of_payments,
       amount,
       round(days_late, 1) AS mean_days_late
FROM counted
JOIN warehouse.dim_payment_type USING (payment_type_id)
JOIN warehouse.dim_currency USING (currency_id)
ORDER BY kind, currency, outcome
