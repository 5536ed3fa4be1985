"""The expected rows of the star tables, as SQL over totesys: a second implementation, independent of the platform's."""

_STAMPS = """created_at::date, created_at::time, last_updated::date, last_updated::time"""

CURRENT_STATE = {
    "fact_sales_order": f"""SELECT sales_order_id, {_STAMPS}, staff_id, counterparty_id, units_sold, unit_price,
        currency_id, design_id, agreed_payment_date::date, agreed_delivery_date::date, agreed_delivery_location_id
        FROM sales_order""",
    "fact_purchase_order": f"""SELECT purchase_order_id, {_STAMPS}, staff_id, counterparty_id, item_code,
        item_quantity, item_unit_price, currency_id, agreed_delivery_date::date, agreed_payment_date::date,
        agreed_delivery_location_id FROM purchase_order""",
    "fact_payment": f"""SELECT payment_id, {_STAMPS}, transaction_id, counterparty_id, payment_amount, currency_id,
        payment_type_id, paid, payment_date::date FROM payment""",
    "dim_staff": """SELECT staff_id, first_name, last_name, department_name, location, email_address
        FROM staff JOIN department USING (department_id)""",
    "dim_location": """SELECT address_id, address_line_1, address_line_2, district, city, postal_code, country, phone
        FROM address""",
    "dim_currency": """SELECT currency_id, currency_code,
        CASE currency_code WHEN 'GBP' THEN 'Pound Sterling' WHEN 'USD' THEN 'US Dollar' WHEN 'EUR' THEN 'Euro' END
        FROM currency""",
    "dim_design": "SELECT design_id, design_name, file_location, file_name FROM design",
    "dim_counterparty": """SELECT counterparty_id, counterparty_legal_name, address_line_1, address_line_2, district,
        city, postal_code, country, phone FROM counterparty JOIN address ON address_id = legal_address_id""",
    "dim_payment_type": "SELECT payment_type_id, payment_type_name::text FROM payment_type",
    "dim_transaction": """SELECT transaction_id, transaction_type::text, sales_order_id, purchase_order_id
        FROM transaction""",
}
"""By star table: its rows without `captured_at`, in the order of its columns."""

DIM_DATE = """SELECT d::date, extract(year FROM d)::int, extract(month FROM d)::int, extract(day FROM d)::int,
    extract(isodow FROM d)::int, trim(to_char(d, 'Day')), trim(to_char(d, 'Month')), extract(quarter FROM d)::int
    FROM (SELECT DISTINCT date_trunc('year', used::date) AS year FROM (
        SELECT created_at::text FROM sales_order UNION SELECT last_updated::text FROM sales_order
        UNION SELECT agreed_payment_date FROM sales_order UNION SELECT agreed_delivery_date FROM sales_order
        UNION SELECT created_at::text FROM purchase_order UNION SELECT last_updated::text FROM purchase_order
        UNION SELECT agreed_payment_date FROM purchase_order UNION SELECT agreed_delivery_date FROM purchase_order
        UNION SELECT created_at::text FROM payment UNION SELECT last_updated::text FROM payment
        UNION SELECT payment_date FROM payment) AS dates(used)) AS years,
    generate_series(year, year + interval '1 year' - interval '1 day', interval '1 day') AS d"""
"""The rows of `dim_date` for the current state. Earlier versions of facts may need more years."""
