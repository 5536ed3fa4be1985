-- A totesys (schema public) and its warehouse (schema warehouse) as of commit 730c75d, written by pg_dump 18
-- (--no-owner --no-privileges --inserts --rows-per-insert=1000), without its comments, SET and \restrict commands. What the
-- buckets held is in release_730c75d.tar.gz. There are eight captures, of the windows from 09:00 to 10:30 on 2026-11-02; the
-- first and, in the window 10:15, the second of two are full. Currency 9 is unknown: dim_currency rejects it, and the third
-- version of sales order 1 waits for it, as the second of sales order 2 did for currency 8 until that was corrected. Payment
-- 1 is rejected for its date, as payment 3 was until that was corrected; payment 2 was deleted.
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA warehouse;
CREATE TYPE public."PaymentTypeName" AS ENUM (
    'SALES_RECEIPT',
    'SALES_REFUND',
    'PURCHASE_PAYMENT',
    'PURCHASE_REFUND'
);
CREATE TYPE public."TransactionType" AS ENUM (
    'SALE',
    'PURCHASE'
);
CREATE TABLE public._prisma_migrations (
    id character varying(36) NOT NULL,
    migration_name character varying(255) NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.address (
    address_id integer NOT NULL,
    address_line_1 text NOT NULL,
    address_line_2 text,
    district text,
    city text NOT NULL,
    postal_code text NOT NULL,
    country text NOT NULL,
    phone text NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.address_address_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.address_address_id_seq OWNED BY public.address.address_id;
CREATE TABLE public.counterparty (
    counterparty_id integer NOT NULL,
    counterparty_legal_name text NOT NULL,
    legal_address_id integer NOT NULL,
    commercial_contact text,
    delivery_contact text,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.counterparty_counterparty_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.counterparty_counterparty_id_seq OWNED BY public.counterparty.counterparty_id;
CREATE TABLE public.currency (
    currency_id integer NOT NULL,
    currency_code character varying(3) NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.currency_currency_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.currency_currency_id_seq OWNED BY public.currency.currency_id;
CREATE TABLE public.department (
    department_id integer NOT NULL,
    department_name text NOT NULL,
    location text,
    manager text,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.department_department_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.department_department_id_seq OWNED BY public.department.department_id;
CREATE TABLE public.design (
    design_id integer NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    design_name text NOT NULL,
    file_location text NOT NULL,
    file_name text NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.design_design_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.design_design_id_seq OWNED BY public.design.design_id;
CREATE TABLE public.payment (
    payment_id integer NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL,
    transaction_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    payment_amount numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    payment_type_id integer NOT NULL,
    paid boolean NOT NULL,
    payment_date text NOT NULL,
    company_ac_number integer NOT NULL,
    counterparty_ac_number integer NOT NULL
);
CREATE SEQUENCE public.payment_payment_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.payment_payment_id_seq OWNED BY public.payment.payment_id;
CREATE TABLE public.payment_type (
    payment_type_id integer NOT NULL,
    payment_type_name public."PaymentTypeName" NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.payment_type_payment_type_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.payment_type_payment_type_id_seq OWNED BY public.payment_type.payment_type_id;
CREATE TABLE public.purchase_order (
    purchase_order_id integer NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL,
    staff_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    item_code text NOT NULL,
    item_quantity integer NOT NULL,
    item_unit_price numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    agreed_delivery_date text NOT NULL,
    agreed_payment_date text NOT NULL,
    agreed_delivery_location_id integer NOT NULL
);
CREATE SEQUENCE public.purchase_order_purchase_order_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.purchase_order_purchase_order_id_seq OWNED BY public.purchase_order.purchase_order_id;
CREATE TABLE public.sales_order (
    sales_order_id integer NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL,
    design_id integer NOT NULL,
    staff_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    units_sold integer NOT NULL,
    unit_price numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    agreed_delivery_date text NOT NULL,
    agreed_payment_date text NOT NULL,
    agreed_delivery_location_id integer NOT NULL
);
CREATE SEQUENCE public.sales_order_sales_order_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sales_order_sales_order_id_seq OWNED BY public.sales_order.sales_order_id;
CREATE TABLE public.staff (
    staff_id integer NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    department_id integer NOT NULL,
    email_address text NOT NULL,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.staff_staff_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.staff_staff_id_seq OWNED BY public.staff.staff_id;
CREATE TABLE public.transaction (
    transaction_id integer NOT NULL,
    transaction_type public."TransactionType" NOT NULL,
    sales_order_id integer,
    purchase_order_id integer,
    created_at timestamp(3) without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    last_updated timestamp(3) without time zone NOT NULL
);
CREATE SEQUENCE public.transaction_transaction_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.transaction_transaction_id_seq OWNED BY public.transaction.transaction_id;
CREATE TABLE warehouse.dim_counterparty (
    counterparty_id integer NOT NULL,
    counterparty_legal_name character varying NOT NULL,
    counterparty_legal_address_line_1 character varying NOT NULL,
    counterparty_legal_address_line_2 character varying,
    counterparty_legal_district character varying,
    counterparty_legal_city character varying NOT NULL,
    counterparty_legal_postal_code character varying NOT NULL,
    counterparty_legal_country character varying NOT NULL,
    counterparty_legal_phone_number character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_counterparty IS 'Companies that buy from us or sell to us, as they are now, each with its legal address.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_id IS 'What orders and payments refer to.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_name IS 'Name by which the company is registered.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_address_line_1 IS 'Street and number.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_address_line_2 IS 'More of the address.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_district IS 'District or county.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_city IS 'City.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_postal_code IS 'Postal code, as text.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_country IS 'Country, by its English name.';
COMMENT ON COLUMN warehouse.dim_counterparty.counterparty_legal_phone_number IS 'Telephone number.';
COMMENT ON COLUMN warehouse.dim_counterparty.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_currency (
    currency_id integer NOT NULL,
    currency_code character varying NOT NULL,
    currency_name character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_currency IS 'Currencies of orders and payments, with their names by ISO 4217.';
COMMENT ON COLUMN warehouse.dim_currency.currency_id IS 'What orders and payments refer to.';
COMMENT ON COLUMN warehouse.dim_currency.currency_code IS 'ISO 4217 code of three letters.';
COMMENT ON COLUMN warehouse.dim_currency.currency_name IS 'Name of the currency by ISO 4217.';
COMMENT ON COLUMN warehouse.dim_currency.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_date (
    date_id date NOT NULL,
    year integer NOT NULL,
    month integer NOT NULL,
    day integer NOT NULL,
    day_of_week integer NOT NULL,
    day_name character varying NOT NULL,
    month_name character varying NOT NULL,
    quarter integer NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_date IS 'Every day of every calendar year that a date of a fact falls in. Days of the week are ISO: Monday is 1.';
COMMENT ON COLUMN warehouse.dim_date.date_id IS 'The day.';
COMMENT ON COLUMN warehouse.dim_date.year IS 'Year.';
COMMENT ON COLUMN warehouse.dim_date.month IS 'Month, 1 to 12.';
COMMENT ON COLUMN warehouse.dim_date.day IS 'Day of the month, 1 to 31.';
COMMENT ON COLUMN warehouse.dim_date.day_of_week IS 'Day of the week: 1 is Monday, 7 is Sunday.';
COMMENT ON COLUMN warehouse.dim_date.day_name IS 'Monday to Sunday.';
COMMENT ON COLUMN warehouse.dim_date.month_name IS 'January to December.';
COMMENT ON COLUMN warehouse.dim_date.quarter IS 'Quarter of the year, 1 to 4.';
COMMENT ON COLUMN warehouse.dim_date.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_design (
    design_id integer NOT NULL,
    design_name character varying NOT NULL,
    file_location character varying NOT NULL,
    file_name character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_design IS 'Designs of tote bags, as they are now.';
COMMENT ON COLUMN warehouse.dim_design.design_id IS 'What sales orders refer to.';
COMMENT ON COLUMN warehouse.dim_design.design_name IS 'Name of the design.';
COMMENT ON COLUMN warehouse.dim_design.file_location IS 'Folder of the file it is drawn in.';
COMMENT ON COLUMN warehouse.dim_design.file_name IS 'Name of the file it is drawn in.';
COMMENT ON COLUMN warehouse.dim_design.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_location (
    location_id integer NOT NULL,
    address_line_1 character varying NOT NULL,
    address_line_2 character varying,
    district character varying,
    city character varying NOT NULL,
    postal_code character varying NOT NULL,
    country character varying NOT NULL,
    phone character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_location IS 'Addresses that orders are delivered to, as they are now.';
COMMENT ON COLUMN warehouse.dim_location.location_id IS 'What orders and counterparties refer to.';
COMMENT ON COLUMN warehouse.dim_location.address_line_1 IS 'Street and number.';
COMMENT ON COLUMN warehouse.dim_location.address_line_2 IS 'More of the address.';
COMMENT ON COLUMN warehouse.dim_location.district IS 'District or county.';
COMMENT ON COLUMN warehouse.dim_location.city IS 'City.';
COMMENT ON COLUMN warehouse.dim_location.postal_code IS 'Postal code, as text.';
COMMENT ON COLUMN warehouse.dim_location.country IS 'Country, by its English name.';
COMMENT ON COLUMN warehouse.dim_location.phone IS 'Telephone number.';
COMMENT ON COLUMN warehouse.dim_location.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_payment_type (
    payment_type_id integer NOT NULL,
    payment_type_name character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_payment_type IS 'Kinds of payment.';
COMMENT ON COLUMN warehouse.dim_payment_type.payment_type_id IS 'What payments refer to.';
COMMENT ON COLUMN warehouse.dim_payment_type.payment_type_name IS 'Kind of payment.';
COMMENT ON COLUMN warehouse.dim_payment_type.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_staff (
    staff_id integer NOT NULL,
    first_name character varying NOT NULL,
    last_name character varying NOT NULL,
    department_name character varying NOT NULL,
    location character varying,
    email_address character varying NOT NULL,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_staff IS 'Members of staff as they are now, each with the department they belong to.';
COMMENT ON COLUMN warehouse.dim_staff.staff_id IS 'What orders refer to.';
COMMENT ON COLUMN warehouse.dim_staff.first_name IS 'First name.';
COMMENT ON COLUMN warehouse.dim_staff.last_name IS 'Last name.';
COMMENT ON COLUMN warehouse.dim_staff.department_name IS 'Name of the department.';
COMMENT ON COLUMN warehouse.dim_staff.location IS 'Where the department is.';
COMMENT ON COLUMN warehouse.dim_staff.email_address IS 'E-mail address at the company.';
COMMENT ON COLUMN warehouse.dim_staff.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.dim_transaction (
    transaction_id integer NOT NULL,
    transaction_type character varying NOT NULL,
    sales_order_id integer,
    purchase_order_id integer,
    captured_at timestamp without time zone NOT NULL
);
COMMENT ON TABLE warehouse.dim_transaction IS 'Transactions, each with the sales or purchase order it belongs to.';
COMMENT ON COLUMN warehouse.dim_transaction.transaction_id IS 'What payments refer to.';
COMMENT ON COLUMN warehouse.dim_transaction.transaction_type IS 'Whether it is a sale or a purchase.';
COMMENT ON COLUMN warehouse.dim_transaction.sales_order_id IS 'The sales order, if it is a sale.';
COMMENT ON COLUMN warehouse.dim_transaction.purchase_order_id IS 'The purchase order, if it is a purchase.';
COMMENT ON COLUMN warehouse.dim_transaction.captured_at IS 'When its capture was made, UTC by the source''s clock.';
CREATE TABLE warehouse.fact_payment (
    payment_record_id integer NOT NULL,
    payment_id integer NOT NULL,
    created_date date NOT NULL,
    created_time time without time zone NOT NULL,
    last_updated_date date NOT NULL,
    last_updated_time time without time zone NOT NULL,
    transaction_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    payment_amount numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    payment_type_id integer NOT NULL,
    paid boolean NOT NULL,
    payment_date date NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
COMMENT ON TABLE warehouse.fact_payment IS 'Payments due or made: every version of each that a capture saw. Account numbers stay in totesys.';
COMMENT ON COLUMN warehouse.fact_payment.payment_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_payment.payment_id IS 'Identifies the payment.';
COMMENT ON COLUMN warehouse.fact_payment.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_payment.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_payment.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment.transaction_id IS 'What is paid for.';
COMMENT ON COLUMN warehouse.fact_payment.counterparty_id IS 'Who pays or is paid.';
COMMENT ON COLUMN warehouse.fact_payment.payment_amount IS 'Amount, in the currency of the payment.';
COMMENT ON COLUMN warehouse.fact_payment.currency_id IS 'Currency of the amount.';
COMMENT ON COLUMN warehouse.fact_payment.payment_type_id IS 'Kind of payment.';
COMMENT ON COLUMN warehouse.fact_payment.paid IS 'Whether it has been made.';
COMMENT ON COLUMN warehouse.fact_payment.payment_date IS 'Day the payment is due or was made.';
COMMENT ON COLUMN warehouse.fact_payment.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_payment.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_payment_current AS
 SELECT payment_record_id,
    payment_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    transaction_id,
    counterparty_id,
    payment_amount,
    currency_id,
    payment_type_id,
    paid,
    payment_date,
    captured_at,
    deleted
   FROM ( SELECT DISTINCT ON (fact_payment.payment_id) fact_payment.payment_record_id,
            fact_payment.payment_id,
            fact_payment.created_date,
            fact_payment.created_time,
            fact_payment.last_updated_date,
            fact_payment.last_updated_time,
            fact_payment.transaction_id,
            fact_payment.counterparty_id,
            fact_payment.payment_amount,
            fact_payment.currency_id,
            fact_payment.payment_type_id,
            fact_payment.paid,
            fact_payment.payment_date,
            fact_payment.captured_at,
            fact_payment.deleted
           FROM warehouse.fact_payment
          ORDER BY fact_payment.payment_id, fact_payment.captured_at DESC) latest
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_payment_current IS 'fact_payment: the present version of each, none of what was deleted.';
COMMENT ON COLUMN warehouse.fact_payment_current.payment_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_payment_current.payment_id IS 'Identifies the payment.';
COMMENT ON COLUMN warehouse.fact_payment_current.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_payment_current.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment_current.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_payment_current.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment_current.transaction_id IS 'What is paid for.';
COMMENT ON COLUMN warehouse.fact_payment_current.counterparty_id IS 'Who pays or is paid.';
COMMENT ON COLUMN warehouse.fact_payment_current.payment_amount IS 'Amount, in the currency of the payment.';
COMMENT ON COLUMN warehouse.fact_payment_current.currency_id IS 'Currency of the amount.';
COMMENT ON COLUMN warehouse.fact_payment_current.payment_type_id IS 'Kind of payment.';
COMMENT ON COLUMN warehouse.fact_payment_current.paid IS 'Whether it has been made.';
COMMENT ON COLUMN warehouse.fact_payment_current.payment_date IS 'Day the payment is due or was made.';
COMMENT ON COLUMN warehouse.fact_payment_current.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_payment_current.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_payment_history AS
 SELECT payment_record_id,
    payment_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    transaction_id,
    counterparty_id,
    payment_amount,
    currency_id,
    payment_type_id,
    paid,
    payment_date,
    captured_at,
    deleted,
    valid_from,
    valid_to
   FROM ( SELECT fact_payment.payment_record_id,
            fact_payment.payment_id,
            fact_payment.created_date,
            fact_payment.created_time,
            fact_payment.last_updated_date,
            fact_payment.last_updated_time,
            fact_payment.transaction_id,
            fact_payment.counterparty_id,
            fact_payment.payment_amount,
            fact_payment.currency_id,
            fact_payment.payment_type_id,
            fact_payment.paid,
            fact_payment.payment_date,
            fact_payment.captured_at,
            fact_payment.deleted,
            fact_payment.captured_at AS valid_from,
            lead(fact_payment.captured_at, 1, 'infinity'::timestamp without time zone) OVER (PARTITION BY fact_payment.payment_id ORDER BY fact_payment.captured_at) AS valid_to
           FROM warehouse.fact_payment) versions
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_payment_history IS 'fact_payment: each version, and from when to when it was what totesys had. As of a time t: WHERE valid_from <= t AND t < valid_to.';
COMMENT ON COLUMN warehouse.fact_payment_history.payment_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_payment_history.payment_id IS 'Identifies the payment.';
COMMENT ON COLUMN warehouse.fact_payment_history.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_payment_history.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment_history.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_payment_history.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_payment_history.transaction_id IS 'What is paid for.';
COMMENT ON COLUMN warehouse.fact_payment_history.counterparty_id IS 'Who pays or is paid.';
COMMENT ON COLUMN warehouse.fact_payment_history.payment_amount IS 'Amount, in the currency of the payment.';
COMMENT ON COLUMN warehouse.fact_payment_history.currency_id IS 'Currency of the amount.';
COMMENT ON COLUMN warehouse.fact_payment_history.payment_type_id IS 'Kind of payment.';
COMMENT ON COLUMN warehouse.fact_payment_history.paid IS 'Whether it has been made.';
COMMENT ON COLUMN warehouse.fact_payment_history.payment_date IS 'Day the payment is due or was made.';
COMMENT ON COLUMN warehouse.fact_payment_history.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_payment_history.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
COMMENT ON COLUMN warehouse.fact_payment_history.valid_from IS 'From when it was so, UTC: when the capture that first saw it was made.';
COMMENT ON COLUMN warehouse.fact_payment_history.valid_to IS 'Until when it was so, UTC, exclusive: the next version''s valid_from, or infinity.';
CREATE SEQUENCE warehouse.fact_payment_payment_record_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE warehouse.fact_payment_payment_record_id_seq OWNED BY warehouse.fact_payment.payment_record_id;
CREATE TABLE warehouse.fact_purchase_order (
    purchase_record_id integer NOT NULL,
    purchase_order_id integer NOT NULL,
    created_date date NOT NULL,
    created_time time without time zone NOT NULL,
    last_updated_date date NOT NULL,
    last_updated_time time without time zone NOT NULL,
    staff_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    item_code character varying NOT NULL,
    item_quantity integer NOT NULL,
    item_unit_price numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    agreed_delivery_date date NOT NULL,
    agreed_payment_date date NOT NULL,
    agreed_delivery_location_id integer NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
COMMENT ON TABLE warehouse.fact_purchase_order IS 'Purchase orders: every version of each that a capture saw.';
COMMENT ON COLUMN warehouse.fact_purchase_order.purchase_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_purchase_order.purchase_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order.staff_id IS 'Who made the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order.counterparty_id IS 'Who sells to us.';
COMMENT ON COLUMN warehouse.fact_purchase_order.item_code IS 'What is ordered.';
COMMENT ON COLUMN warehouse.fact_purchase_order.item_quantity IS 'How many, in units of the item.';
COMMENT ON COLUMN warehouse.fact_purchase_order.item_unit_price IS 'Price of one, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_purchase_order.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_purchase_order.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_purchase_order_current AS
 SELECT purchase_record_id,
    purchase_order_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    staff_id,
    counterparty_id,
    item_code,
    item_quantity,
    item_unit_price,
    currency_id,
    agreed_delivery_date,
    agreed_payment_date,
    agreed_delivery_location_id,
    captured_at,
    deleted
   FROM ( SELECT DISTINCT ON (fact_purchase_order.purchase_order_id) fact_purchase_order.purchase_record_id,
            fact_purchase_order.purchase_order_id,
            fact_purchase_order.created_date,
            fact_purchase_order.created_time,
            fact_purchase_order.last_updated_date,
            fact_purchase_order.last_updated_time,
            fact_purchase_order.staff_id,
            fact_purchase_order.counterparty_id,
            fact_purchase_order.item_code,
            fact_purchase_order.item_quantity,
            fact_purchase_order.item_unit_price,
            fact_purchase_order.currency_id,
            fact_purchase_order.agreed_delivery_date,
            fact_purchase_order.agreed_payment_date,
            fact_purchase_order.agreed_delivery_location_id,
            fact_purchase_order.captured_at,
            fact_purchase_order.deleted
           FROM warehouse.fact_purchase_order
          ORDER BY fact_purchase_order.purchase_order_id, fact_purchase_order.captured_at DESC) latest
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_purchase_order_current IS 'fact_purchase_order: the present version of each, none of what was deleted.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.purchase_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.purchase_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.staff_id IS 'Who made the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.counterparty_id IS 'Who sells to us.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.item_code IS 'What is ordered.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.item_quantity IS 'How many, in units of the item.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.item_unit_price IS 'Price of one, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_purchase_order_current.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_purchase_order_history AS
 SELECT purchase_record_id,
    purchase_order_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    staff_id,
    counterparty_id,
    item_code,
    item_quantity,
    item_unit_price,
    currency_id,
    agreed_delivery_date,
    agreed_payment_date,
    agreed_delivery_location_id,
    captured_at,
    deleted,
    valid_from,
    valid_to
   FROM ( SELECT fact_purchase_order.purchase_record_id,
            fact_purchase_order.purchase_order_id,
            fact_purchase_order.created_date,
            fact_purchase_order.created_time,
            fact_purchase_order.last_updated_date,
            fact_purchase_order.last_updated_time,
            fact_purchase_order.staff_id,
            fact_purchase_order.counterparty_id,
            fact_purchase_order.item_code,
            fact_purchase_order.item_quantity,
            fact_purchase_order.item_unit_price,
            fact_purchase_order.currency_id,
            fact_purchase_order.agreed_delivery_date,
            fact_purchase_order.agreed_payment_date,
            fact_purchase_order.agreed_delivery_location_id,
            fact_purchase_order.captured_at,
            fact_purchase_order.deleted,
            fact_purchase_order.captured_at AS valid_from,
            lead(fact_purchase_order.captured_at, 1, 'infinity'::timestamp without time zone) OVER (PARTITION BY fact_purchase_order.purchase_order_id ORDER BY fact_purchase_order.captured_at) AS valid_to
           FROM warehouse.fact_purchase_order) versions
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_purchase_order_history IS 'fact_purchase_order: each version, and from when to when it was what totesys had. As of a time t: WHERE valid_from <= t AND t < valid_to.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.purchase_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.purchase_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.staff_id IS 'Who made the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.counterparty_id IS 'Who sells to us.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.item_code IS 'What is ordered.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.item_quantity IS 'How many, in units of the item.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.item_unit_price IS 'Price of one, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.valid_from IS 'From when it was so, UTC: when the capture that first saw it was made.';
COMMENT ON COLUMN warehouse.fact_purchase_order_history.valid_to IS 'Until when it was so, UTC, exclusive: the next version''s valid_from, or infinity.';
CREATE SEQUENCE warehouse.fact_purchase_order_purchase_record_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE warehouse.fact_purchase_order_purchase_record_id_seq OWNED BY warehouse.fact_purchase_order.purchase_record_id;
CREATE TABLE warehouse.fact_sales_order (
    sales_record_id integer NOT NULL,
    sales_order_id integer NOT NULL,
    created_date date NOT NULL,
    created_time time without time zone NOT NULL,
    last_updated_date date NOT NULL,
    last_updated_time time without time zone NOT NULL,
    sales_staff_id integer NOT NULL,
    counterparty_id integer NOT NULL,
    units_sold integer NOT NULL,
    unit_price numeric(10,2) NOT NULL,
    currency_id integer NOT NULL,
    design_id integer NOT NULL,
    agreed_payment_date date NOT NULL,
    agreed_delivery_date date NOT NULL,
    agreed_delivery_location_id integer NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    deleted boolean DEFAULT false NOT NULL
);
COMMENT ON TABLE warehouse.fact_sales_order IS 'Sales orders: every version of each that a capture saw.';
COMMENT ON COLUMN warehouse.fact_sales_order.sales_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_sales_order.sales_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_sales_order.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order.sales_staff_id IS 'Who sold.';
COMMENT ON COLUMN warehouse.fact_sales_order.counterparty_id IS 'Who buys from us.';
COMMENT ON COLUMN warehouse.fact_sales_order.units_sold IS 'How many bags.';
COMMENT ON COLUMN warehouse.fact_sales_order.unit_price IS 'Price of one bag, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order.design_id IS 'Design of the bags ordered.';
COMMENT ON COLUMN warehouse.fact_sales_order.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_sales_order.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_sales_order.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_sales_order_current AS
 SELECT sales_record_id,
    sales_order_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    sales_staff_id,
    counterparty_id,
    units_sold,
    unit_price,
    currency_id,
    design_id,
    agreed_payment_date,
    agreed_delivery_date,
    agreed_delivery_location_id,
    captured_at,
    deleted
   FROM ( SELECT DISTINCT ON (fact_sales_order.sales_order_id) fact_sales_order.sales_record_id,
            fact_sales_order.sales_order_id,
            fact_sales_order.created_date,
            fact_sales_order.created_time,
            fact_sales_order.last_updated_date,
            fact_sales_order.last_updated_time,
            fact_sales_order.sales_staff_id,
            fact_sales_order.counterparty_id,
            fact_sales_order.units_sold,
            fact_sales_order.unit_price,
            fact_sales_order.currency_id,
            fact_sales_order.design_id,
            fact_sales_order.agreed_payment_date,
            fact_sales_order.agreed_delivery_date,
            fact_sales_order.agreed_delivery_location_id,
            fact_sales_order.captured_at,
            fact_sales_order.deleted
           FROM warehouse.fact_sales_order
          ORDER BY fact_sales_order.sales_order_id, fact_sales_order.captured_at DESC) latest
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_sales_order_current IS 'fact_sales_order: the present version of each, none of what was deleted.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.sales_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.sales_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.sales_staff_id IS 'Who sold.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.counterparty_id IS 'Who buys from us.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.units_sold IS 'How many bags.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.unit_price IS 'Price of one bag, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.design_id IS 'Design of the bags ordered.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_sales_order_current.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
CREATE VIEW warehouse.fact_sales_order_history AS
 SELECT sales_record_id,
    sales_order_id,
    created_date,
    created_time,
    last_updated_date,
    last_updated_time,
    sales_staff_id,
    counterparty_id,
    units_sold,
    unit_price,
    currency_id,
    design_id,
    agreed_payment_date,
    agreed_delivery_date,
    agreed_delivery_location_id,
    captured_at,
    deleted,
    valid_from,
    valid_to
   FROM ( SELECT fact_sales_order.sales_record_id,
            fact_sales_order.sales_order_id,
            fact_sales_order.created_date,
            fact_sales_order.created_time,
            fact_sales_order.last_updated_date,
            fact_sales_order.last_updated_time,
            fact_sales_order.sales_staff_id,
            fact_sales_order.counterparty_id,
            fact_sales_order.units_sold,
            fact_sales_order.unit_price,
            fact_sales_order.currency_id,
            fact_sales_order.design_id,
            fact_sales_order.agreed_payment_date,
            fact_sales_order.agreed_delivery_date,
            fact_sales_order.agreed_delivery_location_id,
            fact_sales_order.captured_at,
            fact_sales_order.deleted,
            fact_sales_order.captured_at AS valid_from,
            lead(fact_sales_order.captured_at, 1, 'infinity'::timestamp without time zone) OVER (PARTITION BY fact_sales_order.sales_order_id ORDER BY fact_sales_order.captured_at) AS valid_to
           FROM warehouse.fact_sales_order) versions
  WHERE (NOT deleted);
COMMENT ON VIEW warehouse.fact_sales_order_history IS 'fact_sales_order: each version, and from when to when it was what totesys had. As of a time t: WHERE valid_from <= t AND t < valid_to.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.sales_record_id IS 'Numbers the versions, in the order they were loaded in each load.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.sales_order_id IS 'Identifies the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.created_date IS 'Day the row was made, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.created_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.last_updated_date IS 'Day the row was last said to be changed, UTC.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.last_updated_time IS 'Time of that day.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.sales_staff_id IS 'Who sold.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.counterparty_id IS 'Who buys from us.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.units_sold IS 'How many bags.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.unit_price IS 'Price of one bag, in the currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.currency_id IS 'Currency of the order.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.design_id IS 'Design of the bags ordered.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.agreed_payment_date IS 'Day of payment agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.agreed_delivery_date IS 'Day of delivery agreed on.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.agreed_delivery_location_id IS 'Where it is to be delivered.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.captured_at IS 'When its capture was made, UTC by the source''s clock.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.deleted IS 'Whether totesys has the row no more: its last version says so, from the capture that missed it.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.valid_from IS 'From when it was so, UTC: when the capture that first saw it was made.';
COMMENT ON COLUMN warehouse.fact_sales_order_history.valid_to IS 'Until when it was so, UTC, exclusive: the next version''s valid_from, or infinity.';
CREATE SEQUENCE warehouse.fact_sales_order_sales_record_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE warehouse.fact_sales_order_sales_record_id_seq OWNED BY warehouse.fact_sales_order.sales_record_id;
CREATE TABLE warehouse.loads (
    capture text NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    previous text,
    full_capture boolean NOT NULL,
    changed jsonb DEFAULT '{}'::jsonb NOT NULL,
    repaired jsonb DEFAULT '{}'::jsonb NOT NULL,
    loaded_at timestamp without time zone DEFAULT (now() AT TIME ZONE 'UTC'::text) NOT NULL
);
COMMENT ON TABLE warehouse.loads IS 'The captures of totesys that are here, each after the one before it.';
CREATE TABLE warehouse.rejected (
    star_table text NOT NULL,
    source_table text NOT NULL,
    key jsonb NOT NULL,
    "column" text NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    value text,
    reason text NOT NULL,
    "row" text NOT NULL
);
COMMENT ON TABLE warehouse.rejected IS 'Rows of the last captures that cannot be read as declared. They leave when they are mended in totesys.';
CREATE TABLE warehouse.waiting (
    star_table text NOT NULL,
    key jsonb NOT NULL,
    captured_at timestamp without time zone NOT NULL,
    "column" text NOT NULL,
    value text NOT NULL,
    referenced text NOT NULL,
    "row" jsonb NOT NULL
);
COMMENT ON TABLE warehouse.waiting IS 'Versions that refer to a row of a dimension that is not here. They are loaded when it is.';
ALTER TABLE ONLY public.address ALTER COLUMN address_id SET DEFAULT nextval('public.address_address_id_seq'::regclass);
ALTER TABLE ONLY public.counterparty ALTER COLUMN counterparty_id SET DEFAULT nextval('public.counterparty_counterparty_id_seq'::regclass);
ALTER TABLE ONLY public.currency ALTER COLUMN currency_id SET DEFAULT nextval('public.currency_currency_id_seq'::regclass);
ALTER TABLE ONLY public.department ALTER COLUMN department_id SET DEFAULT nextval('public.department_department_id_seq'::regclass);
ALTER TABLE ONLY public.design ALTER COLUMN design_id SET DEFAULT nextval('public.design_design_id_seq'::regclass);
ALTER TABLE ONLY public.payment ALTER COLUMN payment_id SET DEFAULT nextval('public.payment_payment_id_seq'::regclass);
ALTER TABLE ONLY public.payment_type ALTER COLUMN payment_type_id SET DEFAULT nextval('public.payment_type_payment_type_id_seq'::regclass);
ALTER TABLE ONLY public.purchase_order ALTER COLUMN purchase_order_id SET DEFAULT nextval('public.purchase_order_purchase_order_id_seq'::regclass);
ALTER TABLE ONLY public.sales_order ALTER COLUMN sales_order_id SET DEFAULT nextval('public.sales_order_sales_order_id_seq'::regclass);
ALTER TABLE ONLY public.staff ALTER COLUMN staff_id SET DEFAULT nextval('public.staff_staff_id_seq'::regclass);
ALTER TABLE ONLY public.transaction ALTER COLUMN transaction_id SET DEFAULT nextval('public.transaction_transaction_id_seq'::regclass);
ALTER TABLE ONLY warehouse.fact_payment ALTER COLUMN payment_record_id SET DEFAULT nextval('warehouse.fact_payment_payment_record_id_seq'::regclass);
ALTER TABLE ONLY warehouse.fact_purchase_order ALTER COLUMN purchase_record_id SET DEFAULT nextval('warehouse.fact_purchase_order_purchase_record_id_seq'::regclass);
ALTER TABLE ONLY warehouse.fact_sales_order ALTER COLUMN sales_record_id SET DEFAULT nextval('warehouse.fact_sales_order_sales_record_id_seq'::regclass);
INSERT INTO public.address VALUES
	(1, '9448 Rogahn Skyway', NULL, 'Borders', 'Pueblo', '77568', 'Sierra Leone', '2252 055531', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, '3002 Alexie Cliffs', NULL, 'Borders', 'Aliso Viejo', '49978', 'Sierra Leone', '1314 797069', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, '1191 Sincere Fort', NULL, NULL, 'Olsonside', '27842', 'Kiribati', '2548 990459', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(4, '4450 Sincere Fort', NULL, 'Avon', 'Pueblo', '50944', 'Guam', '8076 792661', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(5, '7002 Rogahn Skyway', NULL, 'Borders', 'Hackensack', '21530', 'Sierra Leone', '1602 857449', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(6, '6125 Herzog Via', 'Okafor Glens', NULL, 'Lake Charles', '51488', 'Guam', '4662 808446', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(7, '9170 Koch Drives', NULL, 'Avon', 'Pueblo', '26627', 'Austria', '3793 247514', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(8, '9931 Herzog Via', 'O''Neill Glens', 'Borders', 'Fresno', '88184', 'Iceland', '7209 369536', '2024-08-19 07:00:00', '2024-08-19 07:00:00');
INSERT INTO public.counterparty VALUES
	(1, 'Fahey and Sons', 4, 'Ada García', 'Frances García', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, 'Leannon, Predovic and Morar', 2, 'Donald Moreau', 'Ken Novák', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, 'Armstrong Inc', 2, 'Donald Patel', 'Frances Tanaka', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(4, 'Kohler Inc', 6, 'Ada Tanaka', 'Barbara Byron', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(5, 'Bosco - Grant', 2, 'Donald Tanaka', 'Donald García', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(6, 'Fahey and Sons 5', 7, 'Radia VonRueden', 'Radia Lindqvist', '2024-08-19 07:00:00', '2024-08-19 07:00:00');
INSERT INTO public.currency VALUES
	(1, 'GBP', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, 'USD', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, 'EUR', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(9, 'XQX', '2024-08-22 09:30:00', '2024-08-22 09:30:00'),
	(8, 'EUR', '2024-08-22 09:30:00', '2024-08-22 10:00:00');
INSERT INTO public.department VALUES
	(1, 'Sales', 'Manchester', 'Richard Roma', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, 'Purchasing', 'Manchester', 'Naomi Lapaglia', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, 'Production', 'Leeds', 'Chester Ming', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(4, 'Dispatch', 'Leds', 'Mark Hanna', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(5, 'Finance', 'Manchester', 'Jordan Belfort', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(6, 'Facilities', 'Manchester', 'Shelley Levene', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(7, 'Communications', 'Leeds', 'Ann Blake', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(8, 'HR', 'Leeds', 'James Link', '2024-08-19 07:00:00', '2024-08-19 07:00:00');
INSERT INTO public.design VALUES
	(3, '2024-08-19 07:00:00', 'Granite', '/System', 'granite-20240819-5dxt.json', '2024-08-19 07:00:00'),
	(4, '2024-08-19 07:00:00', 'Steel', '/lost+found', 'steel-20240819-4r8v.json', '2024-08-19 07:00:00'),
	(5, '2024-08-19 12:54:10.072', 'Metal', '/lost+found', 'metal-20240819-ukfu.json', '2024-08-19 12:54:10.072'),
	(6, '2024-08-19 15:01:04.664', 'Steel', '/media', 'steel-20240819-7itb.json', '2024-08-19 15:01:04.664'),
	(7, '2024-08-20 14:10:40.746', 'Steel', '/System', 'steel-20240820-58xv.json', '2024-08-20 14:10:40.746'),
	(1, '2024-08-19 07:00:00', 'Renamed', '/lib', 'rubber-20240819-o3do.json', '2024-08-22 09:15:00'),
	(2, '2024-08-19 07:00:00', 'Metal', '/media/new', 'metal-20240819-haya.json', '2024-08-22 10:30:00');
INSERT INTO public.payment VALUES
	(4, '2024-08-19 16:40:49.487', '2024-08-19 16:40:49.487', 4, 3, 91519.20, 2, 3, false, '2024-08-19', 77535297, 32300966),
	(5, '2024-08-19 18:00:03.5', '2024-08-20 07:55:10', 5, 5, 145027.65, 3, 1, true, '2024-08-20', 86936814, 50951573),
	(6, '2024-08-19 18:59:27.542', '2024-08-19 18:59:27.542', 6, 2, 123168.40, 3, 1, false, '2024-08-19', 27150152, 75594724),
	(7, '2024-08-20 08:03:25.083', '2024-08-20 08:03:25.083', 7, 1, 167834.16, 3, 1, false, '2024-08-23', 50890622, 15109692),
	(8, '2024-08-20 11:23:03.079', '2024-08-20 11:23:03.079', 8, 5, 293682.54, 3, 1, false, '2024-08-20', 92298498, 94584858),
	(9, '2024-08-20 14:20:12.602', '2024-08-20 14:20:12.602', 9, 5, 30715.05, 2, 1, false, '2024-08-22', 77627291, 99582549),
	(10, '2024-08-20 18:16:03.407', '2024-08-20 18:16:03.407', 10, 5, 554357.83, 1, 3, false, '2024-08-22', 29547536, 36114656),
	(11, '2024-08-21 08:09:25.139', '2024-08-21 08:09:25.139', 11, 6, 70301.00, 1, 1, false, '2024-08-26', 86121550, 89982937),
	(12, '2024-08-21 09:30:15.856', '2024-08-21 09:30:15.856', 12, 3, 113715.09, 3, 1, false, '2024-08-22', 79219989, 32751723),
	(13, '2024-08-21 12:36:28.584', '2024-08-21 12:36:28.584', 13, 2, 38497.50, 1, 1, false, '2024-08-28', 23176035, 92469154),
	(14, '2024-08-21 15:04:56.314', '2024-08-21 15:04:56.314', 14, 4, 155231.57, 3, 3, false, '2024-08-22', 16084317, 69412886),
	(15, '2024-08-21 16:10:27.134', '2024-08-21 16:10:27.134', 15, 4, 191603.88, 2, 1, false, '2024-08-28', 33291580, 32191797),
	(16, '2024-08-21 16:16:57.909', '2024-08-21 16:16:57.909', 16, 3, 326363.30, 3, 3, false, '2024-08-25', 52606232, 15577060),
	(17, '2024-08-21 16:54:56.862', '2024-08-21 16:54:56.862', 17, 4, 184084.26, 1, 1, false, '2024-08-22', 23823044, 45469922),
	(18, '2024-08-21 16:58:04.148', '2024-08-21 16:58:04.148', 18, 2, 84006.00, 1, 1, false, '2024-08-21', 12930249, 77000964),
	(19, '2024-08-21 17:19:06.387', '2024-08-21 17:19:06.387', 19, 4, 803196.15, 2, 3, false, '2024-08-23', 19919409, 30446155),
	(20, '2024-08-21 17:19:17.256', '2024-08-21 17:19:17.256', 20, 5, 724028.58, 1, 3, false, '2024-08-25', 38242963, 56327668),
	(21, '2024-08-21 18:40:28.444', '2024-08-21 18:40:28.444', 21, 1, 148900.54, 2, 1, false, '2024-08-21', 45080374, 21241574),
	(1, '2024-08-19 09:39:42.066', '2024-08-22 09:15:00', 1, 2, 264906.72, 2, 1, false, 'tomorrow', 95554206, 38100760),
	(3, '2024-08-19 14:15:59.893', '2024-08-22 10:00:00', 3, 6, 330258.70, 1, 1, true, '2024-08-29', 93413583, 74777359),
	(22, '2024-08-22 10:29:59', '2024-08-22 10:29:59', 22, 2, 211475.88, 2, 1, false, '2024-08-28', 64009047, 83187036);
INSERT INTO public.payment_type VALUES
	(1, 'SALES_RECEIPT', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, 'SALES_REFUND', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, 'PURCHASE_PAYMENT', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(4, 'PURCHASE_REFUND', '2024-08-19 07:00:00', '2024-08-19 07:00:00');
INSERT INTO public.purchase_order VALUES
	(3, '2024-08-20 18:16:03.407', '2024-08-20 18:16:03.407', 1, 5, 'W6UE5GB', 619, 895.57, 1, '2024-08-26', '2024-08-22', 2),
	(4, '2024-08-21 15:04:56.314', '2024-08-21 15:04:56.314', 2, 4, 'V1LZHQF', 169, 918.53, 3, '2024-08-24', '2024-08-22', 8),
	(5, '2024-08-21 16:16:57.909', '2024-08-21 16:16:57.909', 1, 3, 'PTDN8TA', 470, 694.39, 3, '2024-08-22', '2024-08-25', 5),
	(6, '2024-08-21 17:19:06.387', '2024-08-21 17:19:06.387', 1, 4, '9EFMZ63', 915, 877.81, 2, '2024-08-22', '2024-08-23', 4),
	(7, '2024-08-21 17:19:17.256', '2024-08-21 17:19:17.256', 5, 5, 'N7JEPDY', 814, 889.47, 1, '2024-08-27', '2024-08-25', 7),
	(1, '2024-08-19 12:32:18.961', '2024-08-22 09:30:00', 1, 4, 'H16ESE4', 333, 735.25, 2, '2024-08-19', '2024-08-26', 6),
	(2, '2024-08-19 16:40:49.487', '2024-08-19 16:40:49.487', 5, 3, '4L13RW4', 135, 66.60, 2, '2024-08-19', '2024-08-19', 2);
INSERT INTO public.sales_order VALUES
	(3, '2024-08-19 18:00:03.5', '2024-08-19 18:00:03.5', 4, 3, 5, 38065, 3.81, 3, '2024-08-19', '2024-08-20', 5),
	(6, '2024-08-20 11:23:03.079', '2024-08-20 11:23:03.079', 3, 6, 5, 92353, 3.18, 3, '2024-08-24', '2024-08-20', 8),
	(7, '2024-08-20 14:20:12.602', '2024-08-20 14:20:12.602', 5, 1, 5, 10555, 2.91, 2, '2024-08-27', '2024-08-22', 4),
	(8, '2024-08-21 08:09:25.139', '2024-08-21 08:09:25.139', 3, 4, 6, 25564, 2.75, 1, '2024-08-25', '2024-08-26', 3),
	(9, '2024-08-21 09:30:15.856', '2024-08-21 09:30:15.856', 2, 3, 3, 43569, 2.61, 3, '2024-08-26', '2024-08-22', 8),
	(10, '2024-08-21 12:36:28.584', '2024-08-21 12:36:28.584', 5, 6, 2, 17110, 2.25, 1, '2024-08-27', '2024-08-28', 4),
	(11, '2024-08-21 16:10:27.134', '2024-08-21 16:10:27.134', 2, 1, 4, 54588, 3.51, 2, '2024-08-26', '2024-08-28', 6),
	(12, '2024-08-21 16:54:56.862', '2024-08-21 16:54:56.862', 6, 2, 4, 74831, 2.46, 1, '2024-08-25', '2024-08-22', 1),
	(13, '2024-08-21 16:58:04.148', '2024-08-21 16:58:04.148', 4, 4, 2, 25848, 3.25, 1, '2024-08-22', '2024-08-21', 5),
	(14, '2024-08-21 18:40:28.444', '2024-08-21 18:40:28.444', 3, 2, 1, 68303, 2.18, 2, '2024-08-25', '2024-08-21', 2),
	(1, '2024-08-19 09:39:42.066', '2024-08-19 09:39:42.066', 1, 3, 2, 111, 3.18, 9, '2024-08-20', '2024-08-25', 6),
	(2, '2024-08-19 14:15:59.893', '2024-08-19 14:15:59.893', 4, 2, 6, 94630, 3.49, 8, '2024-08-24', '2024-08-21', 2),
	(4, '2024-08-19 18:59:27.542', '2024-08-22 09:15:00', 3, 6, 2, 444, 2.22, 3, '2024-08-22', '2024-08-19', 6),
	(5, '2024-08-20 08:03:25.083', '2024-08-20 08:03:25.083', 2, 6, 1, 555, 2.34, 3, '2024-08-22', '2024-08-23', 8),
	(15, '2024-08-22 10:29:59', '2024-08-22 10:29:59', 1, 3, 2, 83919, 2.52, 2, '2024-08-22', '2024-08-28', 3);
INSERT INTO public.staff VALUES
	(1, 'Ada', 'O''Neill', 1, 'ada.o''neill.0@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(3, 'Alan', 'Lindqvist', 3, 'alan.lindqvist.2@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(4, 'Edsger', 'Moreau', 2, 'edsger.moreau.3@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(5, 'Barbara', 'VonRueden', 7, 'barbara.vonrueden.4@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(6, 'Donald', 'Okafor', 4, 'donald.okafor.5@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-19 07:00:00'),
	(2, 'Grace', 'García', 5, 'grace.garcía.1@terrifictotes.com', '2024-08-19 07:00:00', '2024-08-22 09:15:00');
INSERT INTO public.transaction VALUES
	(1, 'SALE', 1, NULL, '2024-08-19 09:39:42.066', '2024-08-19 09:39:42.066'),
	(2, 'PURCHASE', NULL, 1, '2024-08-19 12:32:18.961', '2024-08-19 12:32:18.961'),
	(3, 'SALE', 2, NULL, '2024-08-19 14:15:59.893', '2024-08-19 14:15:59.893'),
	(4, 'PURCHASE', NULL, 2, '2024-08-19 16:40:49.487', '2024-08-19 16:40:49.487'),
	(5, 'SALE', 3, NULL, '2024-08-19 18:00:03.5', '2024-08-19 18:00:03.5'),
	(6, 'SALE', 4, NULL, '2024-08-19 18:59:27.542', '2024-08-19 18:59:27.542'),
	(7, 'SALE', 5, NULL, '2024-08-20 08:03:25.083', '2024-08-20 08:03:25.083'),
	(8, 'SALE', 6, NULL, '2024-08-20 11:23:03.079', '2024-08-20 11:23:03.079'),
	(9, 'SALE', 7, NULL, '2024-08-20 14:20:12.602', '2024-08-20 14:20:12.602'),
	(10, 'PURCHASE', NULL, 3, '2024-08-20 18:16:03.407', '2024-08-20 18:16:03.407'),
	(11, 'SALE', 8, NULL, '2024-08-21 08:09:25.139', '2024-08-21 08:09:25.139'),
	(12, 'SALE', 9, NULL, '2024-08-21 09:30:15.856', '2024-08-21 09:30:15.856'),
	(13, 'SALE', 10, NULL, '2024-08-21 12:36:28.584', '2024-08-21 12:36:28.584'),
	(14, 'PURCHASE', NULL, 4, '2024-08-21 15:04:56.314', '2024-08-21 15:04:56.314'),
	(15, 'SALE', 11, NULL, '2024-08-21 16:10:27.134', '2024-08-21 16:10:27.134'),
	(16, 'PURCHASE', NULL, 5, '2024-08-21 16:16:57.909', '2024-08-21 16:16:57.909'),
	(17, 'SALE', 12, NULL, '2024-08-21 16:54:56.862', '2024-08-21 16:54:56.862'),
	(18, 'SALE', 13, NULL, '2024-08-21 16:58:04.148', '2024-08-21 16:58:04.148'),
	(19, 'PURCHASE', NULL, 6, '2024-08-21 17:19:06.387', '2024-08-21 17:19:06.387'),
	(20, 'PURCHASE', NULL, 7, '2024-08-21 17:19:17.256', '2024-08-21 17:19:17.256'),
	(21, 'SALE', 14, NULL, '2024-08-21 18:40:28.444', '2024-08-21 18:40:28.444'),
	(22, 'SALE', 15, NULL, '2024-08-22 10:29:59', '2024-08-22 10:29:59');
INSERT INTO warehouse.dim_counterparty VALUES
	(1, 'Fahey and Sons', '4450 Sincere Fort', NULL, 'Avon', 'Pueblo', '50944', 'Guam', '8076 792661', '2026-11-02 09:00:02.125'),
	(2, 'Leannon, Predovic and Morar', '3002 Alexie Cliffs', NULL, 'Borders', 'Aliso Viejo', '49978', 'Sierra Leone', '1314 797069', '2026-11-02 09:00:02.125'),
	(3, 'Armstrong Inc', '3002 Alexie Cliffs', NULL, 'Borders', 'Aliso Viejo', '49978', 'Sierra Leone', '1314 797069', '2026-11-02 09:00:02.125'),
	(4, 'Kohler Inc', '6125 Herzog Via', 'Okafor Glens', NULL, 'Lake Charles', '51488', 'Guam', '4662 808446', '2026-11-02 09:00:02.125'),
	(5, 'Bosco - Grant', '3002 Alexie Cliffs', NULL, 'Borders', 'Aliso Viejo', '49978', 'Sierra Leone', '1314 797069', '2026-11-02 09:00:02.125'),
	(6, 'Fahey and Sons 5', '9170 Koch Drives', NULL, 'Avon', 'Pueblo', '26627', 'Austria', '3793 247514', '2026-11-02 09:00:02.125');
INSERT INTO warehouse.dim_currency VALUES
	(1, 'GBP', 'Pound Sterling', '2026-11-02 09:00:02.125'),
	(2, 'USD', 'US Dollar', '2026-11-02 09:00:02.125'),
	(3, 'EUR', 'Euro', '2026-11-02 09:00:02.125'),
	(8, 'EUR', 'Euro', '2026-11-02 10:00:02.125');
INSERT INTO warehouse.dim_date VALUES
	('2024-01-01', 2024, 1, 1, 1, 'Monday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-02', 2024, 1, 2, 2, 'Tuesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-03', 2024, 1, 3, 3, 'Wednesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-04', 2024, 1, 4, 4, 'Thursday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-05', 2024, 1, 5, 5, 'Friday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-06', 2024, 1, 6, 6, 'Saturday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-07', 2024, 1, 7, 7, 'Sunday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-08', 2024, 1, 8, 1, 'Monday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-09', 2024, 1, 9, 2, 'Tuesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-10', 2024, 1, 10, 3, 'Wednesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-11', 2024, 1, 11, 4, 'Thursday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-12', 2024, 1, 12, 5, 'Friday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-13', 2024, 1, 13, 6, 'Saturday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-14', 2024, 1, 14, 7, 'Sunday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-15', 2024, 1, 15, 1, 'Monday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-16', 2024, 1, 16, 2, 'Tuesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-17', 2024, 1, 17, 3, 'Wednesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-18', 2024, 1, 18, 4, 'Thursday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-19', 2024, 1, 19, 5, 'Friday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-20', 2024, 1, 20, 6, 'Saturday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-21', 2024, 1, 21, 7, 'Sunday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-22', 2024, 1, 22, 1, 'Monday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-23', 2024, 1, 23, 2, 'Tuesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-24', 2024, 1, 24, 3, 'Wednesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-25', 2024, 1, 25, 4, 'Thursday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-26', 2024, 1, 26, 5, 'Friday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-27', 2024, 1, 27, 6, 'Saturday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-28', 2024, 1, 28, 7, 'Sunday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-29', 2024, 1, 29, 1, 'Monday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-30', 2024, 1, 30, 2, 'Tuesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-01-31', 2024, 1, 31, 3, 'Wednesday', 'January', 1, '2026-11-02 09:00:02.125'),
	('2024-02-01', 2024, 2, 1, 4, 'Thursday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-02', 2024, 2, 2, 5, 'Friday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-03', 2024, 2, 3, 6, 'Saturday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-04', 2024, 2, 4, 7, 'Sunday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-05', 2024, 2, 5, 1, 'Monday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-06', 2024, 2, 6, 2, 'Tuesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-07', 2024, 2, 7, 3, 'Wednesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-08', 2024, 2, 8, 4, 'Thursday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-09', 2024, 2, 9, 5, 'Friday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-10', 2024, 2, 10, 6, 'Saturday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-11', 2024, 2, 11, 7, 'Sunday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-12', 2024, 2, 12, 1, 'Monday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-13', 2024, 2, 13, 2, 'Tuesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-14', 2024, 2, 14, 3, 'Wednesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-15', 2024, 2, 15, 4, 'Thursday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-16', 2024, 2, 16, 5, 'Friday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-17', 2024, 2, 17, 6, 'Saturday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-18', 2024, 2, 18, 7, 'Sunday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-19', 2024, 2, 19, 1, 'Monday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-20', 2024, 2, 20, 2, 'Tuesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-21', 2024, 2, 21, 3, 'Wednesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-22', 2024, 2, 22, 4, 'Thursday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-23', 2024, 2, 23, 5, 'Friday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-24', 2024, 2, 24, 6, 'Saturday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-25', 2024, 2, 25, 7, 'Sunday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-26', 2024, 2, 26, 1, 'Monday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-27', 2024, 2, 27, 2, 'Tuesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-28', 2024, 2, 28, 3, 'Wednesday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-02-29', 2024, 2, 29, 4, 'Thursday', 'February', 1, '2026-11-02 09:00:02.125'),
	('2024-03-01', 2024, 3, 1, 5, 'Friday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-02', 2024, 3, 2, 6, 'Saturday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-03', 2024, 3, 3, 7, 'Sunday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-04', 2024, 3, 4, 1, 'Monday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-05', 2024, 3, 5, 2, 'Tuesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-06', 2024, 3, 6, 3, 'Wednesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-07', 2024, 3, 7, 4, 'Thursday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-08', 2024, 3, 8, 5, 'Friday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-09', 2024, 3, 9, 6, 'Saturday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-10', 2024, 3, 10, 7, 'Sunday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-11', 2024, 3, 11, 1, 'Monday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-12', 2024, 3, 12, 2, 'Tuesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-13', 2024, 3, 13, 3, 'Wednesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-14', 2024, 3, 14, 4, 'Thursday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-15', 2024, 3, 15, 5, 'Friday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-16', 2024, 3, 16, 6, 'Saturday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-17', 2024, 3, 17, 7, 'Sunday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-18', 2024, 3, 18, 1, 'Monday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-19', 2024, 3, 19, 2, 'Tuesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-20', 2024, 3, 20, 3, 'Wednesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-21', 2024, 3, 21, 4, 'Thursday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-22', 2024, 3, 22, 5, 'Friday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-23', 2024, 3, 23, 6, 'Saturday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-24', 2024, 3, 24, 7, 'Sunday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-25', 2024, 3, 25, 1, 'Monday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-26', 2024, 3, 26, 2, 'Tuesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-27', 2024, 3, 27, 3, 'Wednesday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-28', 2024, 3, 28, 4, 'Thursday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-29', 2024, 3, 29, 5, 'Friday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-30', 2024, 3, 30, 6, 'Saturday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-03-31', 2024, 3, 31, 7, 'Sunday', 'March', 1, '2026-11-02 09:00:02.125'),
	('2024-04-01', 2024, 4, 1, 1, 'Monday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-02', 2024, 4, 2, 2, 'Tuesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-03', 2024, 4, 3, 3, 'Wednesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-04', 2024, 4, 4, 4, 'Thursday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-05', 2024, 4, 5, 5, 'Friday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-06', 2024, 4, 6, 6, 'Saturday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-07', 2024, 4, 7, 7, 'Sunday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-08', 2024, 4, 8, 1, 'Monday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-09', 2024, 4, 9, 2, 'Tuesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-10', 2024, 4, 10, 3, 'Wednesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-11', 2024, 4, 11, 4, 'Thursday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-12', 2024, 4, 12, 5, 'Friday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-13', 2024, 4, 13, 6, 'Saturday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-14', 2024, 4, 14, 7, 'Sunday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-15', 2024, 4, 15, 1, 'Monday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-16', 2024, 4, 16, 2, 'Tuesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-17', 2024, 4, 17, 3, 'Wednesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-18', 2024, 4, 18, 4, 'Thursday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-19', 2024, 4, 19, 5, 'Friday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-20', 2024, 4, 20, 6, 'Saturday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-21', 2024, 4, 21, 7, 'Sunday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-22', 2024, 4, 22, 1, 'Monday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-23', 2024, 4, 23, 2, 'Tuesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-24', 2024, 4, 24, 3, 'Wednesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-25', 2024, 4, 25, 4, 'Thursday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-26', 2024, 4, 26, 5, 'Friday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-27', 2024, 4, 27, 6, 'Saturday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-28', 2024, 4, 28, 7, 'Sunday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-29', 2024, 4, 29, 1, 'Monday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-04-30', 2024, 4, 30, 2, 'Tuesday', 'April', 2, '2026-11-02 09:00:02.125'),
	('2024-05-01', 2024, 5, 1, 3, 'Wednesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-02', 2024, 5, 2, 4, 'Thursday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-03', 2024, 5, 3, 5, 'Friday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-04', 2024, 5, 4, 6, 'Saturday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-05', 2024, 5, 5, 7, 'Sunday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-06', 2024, 5, 6, 1, 'Monday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-07', 2024, 5, 7, 2, 'Tuesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-08', 2024, 5, 8, 3, 'Wednesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-09', 2024, 5, 9, 4, 'Thursday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-10', 2024, 5, 10, 5, 'Friday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-11', 2024, 5, 11, 6, 'Saturday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-12', 2024, 5, 12, 7, 'Sunday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-13', 2024, 5, 13, 1, 'Monday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-14', 2024, 5, 14, 2, 'Tuesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-15', 2024, 5, 15, 3, 'Wednesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-16', 2024, 5, 16, 4, 'Thursday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-17', 2024, 5, 17, 5, 'Friday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-18', 2024, 5, 18, 6, 'Saturday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-19', 2024, 5, 19, 7, 'Sunday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-20', 2024, 5, 20, 1, 'Monday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-21', 2024, 5, 21, 2, 'Tuesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-22', 2024, 5, 22, 3, 'Wednesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-23', 2024, 5, 23, 4, 'Thursday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-24', 2024, 5, 24, 5, 'Friday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-25', 2024, 5, 25, 6, 'Saturday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-26', 2024, 5, 26, 7, 'Sunday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-27', 2024, 5, 27, 1, 'Monday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-28', 2024, 5, 28, 2, 'Tuesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-29', 2024, 5, 29, 3, 'Wednesday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-30', 2024, 5, 30, 4, 'Thursday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-05-31', 2024, 5, 31, 5, 'Friday', 'May', 2, '2026-11-02 09:00:02.125'),
	('2024-06-01', 2024, 6, 1, 6, 'Saturday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-02', 2024, 6, 2, 7, 'Sunday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-03', 2024, 6, 3, 1, 'Monday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-04', 2024, 6, 4, 2, 'Tuesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-05', 2024, 6, 5, 3, 'Wednesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-06', 2024, 6, 6, 4, 'Thursday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-07', 2024, 6, 7, 5, 'Friday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-08', 2024, 6, 8, 6, 'Saturday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-09', 2024, 6, 9, 7, 'Sunday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-10', 2024, 6, 10, 1, 'Monday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-11', 2024, 6, 11, 2, 'Tuesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-12', 2024, 6, 12, 3, 'Wednesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-13', 2024, 6, 13, 4, 'Thursday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-14', 2024, 6, 14, 5, 'Friday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-15', 2024, 6, 15, 6, 'Saturday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-16', 2024, 6, 16, 7, 'Sunday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-17', 2024, 6, 17, 1, 'Monday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-18', 2024, 6, 18, 2, 'Tuesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-19', 2024, 6, 19, 3, 'Wednesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-20', 2024, 6, 20, 4, 'Thursday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-21', 2024, 6, 21, 5, 'Friday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-22', 2024, 6, 22, 6, 'Saturday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-23', 2024, 6, 23, 7, 'Sunday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-24', 2024, 6, 24, 1, 'Monday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-25', 2024, 6, 25, 2, 'Tuesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-26', 2024, 6, 26, 3, 'Wednesday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-27', 2024, 6, 27, 4, 'Thursday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-28', 2024, 6, 28, 5, 'Friday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-29', 2024, 6, 29, 6, 'Saturday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-06-30', 2024, 6, 30, 7, 'Sunday', 'June', 2, '2026-11-02 09:00:02.125'),
	('2024-07-01', 2024, 7, 1, 1, 'Monday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-02', 2024, 7, 2, 2, 'Tuesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-03', 2024, 7, 3, 3, 'Wednesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-04', 2024, 7, 4, 4, 'Thursday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-05', 2024, 7, 5, 5, 'Friday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-06', 2024, 7, 6, 6, 'Saturday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-07', 2024, 7, 7, 7, 'Sunday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-08', 2024, 7, 8, 1, 'Monday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-09', 2024, 7, 9, 2, 'Tuesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-10', 2024, 7, 10, 3, 'Wednesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-11', 2024, 7, 11, 4, 'Thursday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-12', 2024, 7, 12, 5, 'Friday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-13', 2024, 7, 13, 6, 'Saturday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-14', 2024, 7, 14, 7, 'Sunday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-15', 2024, 7, 15, 1, 'Monday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-16', 2024, 7, 16, 2, 'Tuesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-17', 2024, 7, 17, 3, 'Wednesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-18', 2024, 7, 18, 4, 'Thursday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-19', 2024, 7, 19, 5, 'Friday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-20', 2024, 7, 20, 6, 'Saturday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-21', 2024, 7, 21, 7, 'Sunday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-22', 2024, 7, 22, 1, 'Monday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-23', 2024, 7, 23, 2, 'Tuesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-24', 2024, 7, 24, 3, 'Wednesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-25', 2024, 7, 25, 4, 'Thursday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-26', 2024, 7, 26, 5, 'Friday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-27', 2024, 7, 27, 6, 'Saturday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-28', 2024, 7, 28, 7, 'Sunday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-29', 2024, 7, 29, 1, 'Monday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-30', 2024, 7, 30, 2, 'Tuesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-07-31', 2024, 7, 31, 3, 'Wednesday', 'July', 3, '2026-11-02 09:00:02.125'),
	('2024-08-01', 2024, 8, 1, 4, 'Thursday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-02', 2024, 8, 2, 5, 'Friday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-03', 2024, 8, 3, 6, 'Saturday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-04', 2024, 8, 4, 7, 'Sunday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-05', 2024, 8, 5, 1, 'Monday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-06', 2024, 8, 6, 2, 'Tuesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-07', 2024, 8, 7, 3, 'Wednesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-08', 2024, 8, 8, 4, 'Thursday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-09', 2024, 8, 9, 5, 'Friday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-10', 2024, 8, 10, 6, 'Saturday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-11', 2024, 8, 11, 7, 'Sunday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-12', 2024, 8, 12, 1, 'Monday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-13', 2024, 8, 13, 2, 'Tuesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-14', 2024, 8, 14, 3, 'Wednesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-15', 2024, 8, 15, 4, 'Thursday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-16', 2024, 8, 16, 5, 'Friday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-17', 2024, 8, 17, 6, 'Saturday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-18', 2024, 8, 18, 7, 'Sunday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-19', 2024, 8, 19, 1, 'Monday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-20', 2024, 8, 20, 2, 'Tuesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-21', 2024, 8, 21, 3, 'Wednesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-22', 2024, 8, 22, 4, 'Thursday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-23', 2024, 8, 23, 5, 'Friday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-24', 2024, 8, 24, 6, 'Saturday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-25', 2024, 8, 25, 7, 'Sunday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-26', 2024, 8, 26, 1, 'Monday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-27', 2024, 8, 27, 2, 'Tuesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-28', 2024, 8, 28, 3, 'Wednesday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-29', 2024, 8, 29, 4, 'Thursday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-30', 2024, 8, 30, 5, 'Friday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-08-31', 2024, 8, 31, 6, 'Saturday', 'August', 3, '2026-11-02 09:00:02.125'),
	('2024-09-01', 2024, 9, 1, 7, 'Sunday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-02', 2024, 9, 2, 1, 'Monday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-03', 2024, 9, 3, 2, 'Tuesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-04', 2024, 9, 4, 3, 'Wednesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-05', 2024, 9, 5, 4, 'Thursday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-06', 2024, 9, 6, 5, 'Friday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-07', 2024, 9, 7, 6, 'Saturday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-08', 2024, 9, 8, 7, 'Sunday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-09', 2024, 9, 9, 1, 'Monday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-10', 2024, 9, 10, 2, 'Tuesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-11', 2024, 9, 11, 3, 'Wednesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-12', 2024, 9, 12, 4, 'Thursday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-13', 2024, 9, 13, 5, 'Friday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-14', 2024, 9, 14, 6, 'Saturday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-15', 2024, 9, 15, 7, 'Sunday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-16', 2024, 9, 16, 1, 'Monday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-17', 2024, 9, 17, 2, 'Tuesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-18', 2024, 9, 18, 3, 'Wednesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-19', 2024, 9, 19, 4, 'Thursday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-20', 2024, 9, 20, 5, 'Friday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-21', 2024, 9, 21, 6, 'Saturday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-22', 2024, 9, 22, 7, 'Sunday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-23', 2024, 9, 23, 1, 'Monday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-24', 2024, 9, 24, 2, 'Tuesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-25', 2024, 9, 25, 3, 'Wednesday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-26', 2024, 9, 26, 4, 'Thursday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-27', 2024, 9, 27, 5, 'Friday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-28', 2024, 9, 28, 6, 'Saturday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-29', 2024, 9, 29, 7, 'Sunday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-09-30', 2024, 9, 30, 1, 'Monday', 'September', 3, '2026-11-02 09:00:02.125'),
	('2024-10-01', 2024, 10, 1, 2, 'Tuesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-02', 2024, 10, 2, 3, 'Wednesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-03', 2024, 10, 3, 4, 'Thursday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-04', 2024, 10, 4, 5, 'Friday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-05', 2024, 10, 5, 6, 'Saturday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-06', 2024, 10, 6, 7, 'Sunday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-07', 2024, 10, 7, 1, 'Monday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-08', 2024, 10, 8, 2, 'Tuesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-09', 2024, 10, 9, 3, 'Wednesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-10', 2024, 10, 10, 4, 'Thursday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-11', 2024, 10, 11, 5, 'Friday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-12', 2024, 10, 12, 6, 'Saturday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-13', 2024, 10, 13, 7, 'Sunday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-14', 2024, 10, 14, 1, 'Monday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-15', 2024, 10, 15, 2, 'Tuesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-16', 2024, 10, 16, 3, 'Wednesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-17', 2024, 10, 17, 4, 'Thursday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-18', 2024, 10, 18, 5, 'Friday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-19', 2024, 10, 19, 6, 'Saturday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-20', 2024, 10, 20, 7, 'Sunday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-21', 2024, 10, 21, 1, 'Monday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-22', 2024, 10, 22, 2, 'Tuesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-23', 2024, 10, 23, 3, 'Wednesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-24', 2024, 10, 24, 4, 'Thursday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-25', 2024, 10, 25, 5, 'Friday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-26', 2024, 10, 26, 6, 'Saturday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-27', 2024, 10, 27, 7, 'Sunday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-28', 2024, 10, 28, 1, 'Monday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-29', 2024, 10, 29, 2, 'Tuesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-30', 2024, 10, 30, 3, 'Wednesday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-10-31', 2024, 10, 31, 4, 'Thursday', 'October', 4, '2026-11-02 09:00:02.125'),
	('2024-11-01', 2024, 11, 1, 5, 'Friday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-02', 2024, 11, 2, 6, 'Saturday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-03', 2024, 11, 3, 7, 'Sunday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-04', 2024, 11, 4, 1, 'Monday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-05', 2024, 11, 5, 2, 'Tuesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-06', 2024, 11, 6, 3, 'Wednesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-07', 2024, 11, 7, 4, 'Thursday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-08', 2024, 11, 8, 5, 'Friday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-09', 2024, 11, 9, 6, 'Saturday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-10', 2024, 11, 10, 7, 'Sunday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-11', 2024, 11, 11, 1, 'Monday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-12', 2024, 11, 12, 2, 'Tuesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-13', 2024, 11, 13, 3, 'Wednesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-14', 2024, 11, 14, 4, 'Thursday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-15', 2024, 11, 15, 5, 'Friday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-16', 2024, 11, 16, 6, 'Saturday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-17', 2024, 11, 17, 7, 'Sunday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-18', 2024, 11, 18, 1, 'Monday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-19', 2024, 11, 19, 2, 'Tuesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-20', 2024, 11, 20, 3, 'Wednesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-21', 2024, 11, 21, 4, 'Thursday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-22', 2024, 11, 22, 5, 'Friday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-23', 2024, 11, 23, 6, 'Saturday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-24', 2024, 11, 24, 7, 'Sunday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-25', 2024, 11, 25, 1, 'Monday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-26', 2024, 11, 26, 2, 'Tuesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-27', 2024, 11, 27, 3, 'Wednesday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-28', 2024, 11, 28, 4, 'Thursday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-29', 2024, 11, 29, 5, 'Friday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-11-30', 2024, 11, 30, 6, 'Saturday', 'November', 4, '2026-11-02 09:00:02.125'),
	('2024-12-01', 2024, 12, 1, 7, 'Sunday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-02', 2024, 12, 2, 1, 'Monday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-03', 2024, 12, 3, 2, 'Tuesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-04', 2024, 12, 4, 3, 'Wednesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-05', 2024, 12, 5, 4, 'Thursday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-06', 2024, 12, 6, 5, 'Friday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-07', 2024, 12, 7, 6, 'Saturday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-08', 2024, 12, 8, 7, 'Sunday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-09', 2024, 12, 9, 1, 'Monday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-10', 2024, 12, 10, 2, 'Tuesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-11', 2024, 12, 11, 3, 'Wednesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-12', 2024, 12, 12, 4, 'Thursday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-13', 2024, 12, 13, 5, 'Friday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-14', 2024, 12, 14, 6, 'Saturday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-15', 2024, 12, 15, 7, 'Sunday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-16', 2024, 12, 16, 1, 'Monday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-17', 2024, 12, 17, 2, 'Tuesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-18', 2024, 12, 18, 3, 'Wednesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-19', 2024, 12, 19, 4, 'Thursday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-20', 2024, 12, 20, 5, 'Friday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-21', 2024, 12, 21, 6, 'Saturday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-22', 2024, 12, 22, 7, 'Sunday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-23', 2024, 12, 23, 1, 'Monday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-24', 2024, 12, 24, 2, 'Tuesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-25', 2024, 12, 25, 3, 'Wednesday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-26', 2024, 12, 26, 4, 'Thursday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-27', 2024, 12, 27, 5, 'Friday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-28', 2024, 12, 28, 6, 'Saturday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-29', 2024, 12, 29, 7, 'Sunday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-30', 2024, 12, 30, 1, 'Monday', 'December', 4, '2026-11-02 09:00:02.125'),
	('2024-12-31', 2024, 12, 31, 2, 'Tuesday', 'December', 4, '2026-11-02 09:00:02.125');
INSERT INTO warehouse.dim_design VALUES
	(3, 'Granite', '/System', 'granite-20240819-5dxt.json', '2026-11-02 09:00:02.125'),
	(4, 'Steel', '/lost+found', 'steel-20240819-4r8v.json', '2026-11-02 09:00:02.125'),
	(5, 'Metal', '/lost+found', 'metal-20240819-ukfu.json', '2026-11-02 09:00:02.125'),
	(6, 'Steel', '/media', 'steel-20240819-7itb.json', '2026-11-02 09:00:02.125'),
	(7, 'Steel', '/System', 'steel-20240820-58xv.json', '2026-11-02 09:00:02.125'),
	(1, 'Renamed', '/lib', 'rubber-20240819-o3do.json', '2026-11-02 09:15:02.125'),
	(2, 'Metal', '/media/new', 'metal-20240819-haya.json', '2026-11-02 10:30:02.125');
INSERT INTO warehouse.dim_location VALUES
	(1, '9448 Rogahn Skyway', NULL, 'Borders', 'Pueblo', '77568', 'Sierra Leone', '2252 055531', '2026-11-02 09:00:02.125'),
	(2, '3002 Alexie Cliffs', NULL, 'Borders', 'Aliso Viejo', '49978', 'Sierra Leone', '1314 797069', '2026-11-02 09:00:02.125'),
	(3, '1191 Sincere Fort', NULL, NULL, 'Olsonside', '27842', 'Kiribati', '2548 990459', '2026-11-02 09:00:02.125'),
	(4, '4450 Sincere Fort', NULL, 'Avon', 'Pueblo', '50944', 'Guam', '8076 792661', '2026-11-02 09:00:02.125'),
	(5, '7002 Rogahn Skyway', NULL, 'Borders', 'Hackensack', '21530', 'Sierra Leone', '1602 857449', '2026-11-02 09:00:02.125'),
	(6, '6125 Herzog Via', 'Okafor Glens', NULL, 'Lake Charles', '51488', 'Guam', '4662 808446', '2026-11-02 09:00:02.125'),
	(7, '9170 Koch Drives', NULL, 'Avon', 'Pueblo', '26627', 'Austria', '3793 247514', '2026-11-02 09:00:02.125'),
	(8, '9931 Herzog Via', 'O''Neill Glens', 'Borders', 'Fresno', '88184', 'Iceland', '7209 369536', '2026-11-02 09:00:02.125');
INSERT INTO warehouse.dim_payment_type VALUES
	(1, 'SALES_RECEIPT', '2026-11-02 09:00:02.125'),
	(2, 'SALES_REFUND', '2026-11-02 09:00:02.125'),
	(3, 'PURCHASE_PAYMENT', '2026-11-02 09:00:02.125'),
	(4, 'PURCHASE_REFUND', '2026-11-02 09:00:02.125');
INSERT INTO warehouse.dim_staff VALUES
	(1, 'Ada', 'O''Neill', 'Sales', 'Manchester', 'ada.o''neill.0@terrifictotes.com', '2026-11-02 09:00:02.125'),
	(3, 'Alan', 'Lindqvist', 'Production', 'Leeds', 'alan.lindqvist.2@terrifictotes.com', '2026-11-02 09:00:02.125'),
	(4, 'Edsger', 'Moreau', 'Purchasing', 'Manchester', 'edsger.moreau.3@terrifictotes.com', '2026-11-02 09:00:02.125'),
	(5, 'Barbara', 'VonRueden', 'Communications', 'Leeds', 'barbara.vonrueden.4@terrifictotes.com', '2026-11-02 09:00:02.125'),
	(6, 'Donald', 'Okafor', 'Dispatch', 'Leds', 'donald.okafor.5@terrifictotes.com', '2026-11-02 09:00:02.125'),
	(2, 'Grace', 'García', 'Finance', 'Manchester', 'grace.garcía.1@terrifictotes.com', '2026-11-02 09:15:02.125');
INSERT INTO warehouse.dim_transaction VALUES
	(1, 'SALE', 1, NULL, '2026-11-02 09:00:02.125'),
	(2, 'PURCHASE', NULL, 1, '2026-11-02 09:00:02.125'),
	(3, 'SALE', 2, NULL, '2026-11-02 09:00:02.125'),
	(4, 'PURCHASE', NULL, 2, '2026-11-02 09:00:02.125'),
	(5, 'SALE', 3, NULL, '2026-11-02 09:00:02.125'),
	(6, 'SALE', 4, NULL, '2026-11-02 09:00:02.125'),
	(7, 'SALE', 5, NULL, '2026-11-02 09:00:02.125'),
	(8, 'SALE', 6, NULL, '2026-11-02 09:00:02.125'),
	(9, 'SALE', 7, NULL, '2026-11-02 09:00:02.125'),
	(10, 'PURCHASE', NULL, 3, '2026-11-02 09:00:02.125'),
	(11, 'SALE', 8, NULL, '2026-11-02 09:00:02.125'),
	(12, 'SALE', 9, NULL, '2026-11-02 09:00:02.125'),
	(13, 'SALE', 10, NULL, '2026-11-02 09:00:02.125'),
	(14, 'PURCHASE', NULL, 4, '2026-11-02 09:00:02.125'),
	(15, 'SALE', 11, NULL, '2026-11-02 09:00:02.125'),
	(16, 'PURCHASE', NULL, 5, '2026-11-02 09:00:02.125'),
	(17, 'SALE', 12, NULL, '2026-11-02 09:00:02.125'),
	(18, 'SALE', 13, NULL, '2026-11-02 09:00:02.125'),
	(19, 'PURCHASE', NULL, 6, '2026-11-02 09:00:02.125'),
	(20, 'PURCHASE', NULL, 7, '2026-11-02 09:00:02.125'),
	(21, 'SALE', 14, NULL, '2026-11-02 09:00:02.125'),
	(22, 'SALE', 15, NULL, '2026-11-02 10:30:02.125');
INSERT INTO warehouse.fact_payment VALUES
	(1, 1, '2024-08-19', '09:39:42.066', '2024-08-19', '09:39:42.066', 1, 2, 264906.72, 2, 1, false, '2024-08-25', '2026-11-02 09:00:02.125', false),
	(2, 2, '2024-08-19', '12:32:18.961', '2024-08-19', '12:32:18.961', 2, 4, 227927.50, 2, 3, false, '2024-08-26', '2026-11-02 09:00:02.125', false),
	(3, 4, '2024-08-19', '16:40:49.487', '2024-08-19', '16:40:49.487', 4, 3, 91519.20, 2, 3, false, '2024-08-19', '2026-11-02 09:00:02.125', false),
	(4, 5, '2024-08-19', '18:00:03.5', '2024-08-20', '07:55:10', 5, 5, 145027.65, 3, 1, true, '2024-08-20', '2026-11-02 09:00:02.125', false),
	(5, 6, '2024-08-19', '18:59:27.542', '2024-08-19', '18:59:27.542', 6, 2, 123168.40, 3, 1, false, '2024-08-19', '2026-11-02 09:00:02.125', false),
	(6, 7, '2024-08-20', '08:03:25.083', '2024-08-20', '08:03:25.083', 7, 1, 167834.16, 3, 1, false, '2024-08-23', '2026-11-02 09:00:02.125', false),
	(7, 8, '2024-08-20', '11:23:03.079', '2024-08-20', '11:23:03.079', 8, 5, 293682.54, 3, 1, false, '2024-08-20', '2026-11-02 09:00:02.125', false),
	(8, 9, '2024-08-20', '14:20:12.602', '2024-08-20', '14:20:12.602', 9, 5, 30715.05, 2, 1, false, '2024-08-22', '2026-11-02 09:00:02.125', false),
	(9, 10, '2024-08-20', '18:16:03.407', '2024-08-20', '18:16:03.407', 10, 5, 554357.83, 1, 3, false, '2024-08-22', '2026-11-02 09:00:02.125', false),
	(10, 11, '2024-08-21', '08:09:25.139', '2024-08-21', '08:09:25.139', 11, 6, 70301.00, 1, 1, false, '2024-08-26', '2026-11-02 09:00:02.125', false),
	(11, 12, '2024-08-21', '09:30:15.856', '2024-08-21', '09:30:15.856', 12, 3, 113715.09, 3, 1, false, '2024-08-22', '2026-11-02 09:00:02.125', false),
	(12, 13, '2024-08-21', '12:36:28.584', '2024-08-21', '12:36:28.584', 13, 2, 38497.50, 1, 1, false, '2024-08-28', '2026-11-02 09:00:02.125', false),
	(13, 14, '2024-08-21', '15:04:56.314', '2024-08-21', '15:04:56.314', 14, 4, 155231.57, 3, 3, false, '2024-08-22', '2026-11-02 09:00:02.125', false),
	(14, 15, '2024-08-21', '16:10:27.134', '2024-08-21', '16:10:27.134', 15, 4, 191603.88, 2, 1, false, '2024-08-28', '2026-11-02 09:00:02.125', false),
	(15, 16, '2024-08-21', '16:16:57.909', '2024-08-21', '16:16:57.909', 16, 3, 326363.30, 3, 3, false, '2024-08-25', '2026-11-02 09:00:02.125', false),
	(16, 17, '2024-08-21', '16:54:56.862', '2024-08-21', '16:54:56.862', 17, 4, 184084.26, 1, 1, false, '2024-08-22', '2026-11-02 09:00:02.125', false),
	(17, 18, '2024-08-21', '16:58:04.148', '2024-08-21', '16:58:04.148', 18, 2, 84006.00, 1, 1, false, '2024-08-21', '2026-11-02 09:00:02.125', false),
	(18, 19, '2024-08-21', '17:19:06.387', '2024-08-21', '17:19:06.387', 19, 4, 803196.15, 2, 3, false, '2024-08-23', '2026-11-02 09:00:02.125', false),
	(19, 20, '2024-08-21', '17:19:17.256', '2024-08-21', '17:19:17.256', 20, 5, 724028.58, 1, 3, false, '2024-08-25', '2026-11-02 09:00:02.125', false),
	(20, 21, '2024-08-21', '18:40:28.444', '2024-08-21', '18:40:28.444', 21, 1, 148900.54, 2, 1, false, '2024-08-21', '2026-11-02 09:00:02.125', false),
	(21, 3, '2024-08-19', '14:15:59.893', '2024-08-22', '10:00:00', 3, 6, 330258.70, 1, 1, true, '2024-08-29', '2026-11-02 10:00:02.125', false),
	(22, 2, '2024-08-19', '12:32:18.961', '2024-08-19', '12:32:18.961', 2, 4, 227927.50, 2, 3, false, '2024-08-26', '2026-11-02 10:15:02.125001', true),
	(23, 22, '2024-08-22', '10:29:59', '2024-08-22', '10:29:59', 22, 2, 211475.88, 2, 1, false, '2024-08-28', '2026-11-02 10:30:02.125', false);
INSERT INTO warehouse.fact_purchase_order VALUES
	(1, 1, '2024-08-19', '12:32:18.961', '2024-08-19', '12:32:18.961', 1, 4, 'H16ESE4', 310, 735.25, 2, '2024-08-19', '2024-08-26', 6, '2026-11-02 09:00:02.125', false),
	(2, 2, '2024-08-19', '16:40:49.487', '2024-08-19', '16:40:49.487', 5, 3, '4L13RW4', 135, 677.92, 2, '2024-08-19', '2024-08-19', 2, '2026-11-02 09:00:02.125', false),
	(3, 3, '2024-08-20', '18:16:03.407', '2024-08-20', '18:16:03.407', 1, 5, 'W6UE5GB', 619, 895.57, 1, '2024-08-26', '2024-08-22', 2, '2026-11-02 09:00:02.125', false),
	(4, 4, '2024-08-21', '15:04:56.314', '2024-08-21', '15:04:56.314', 2, 4, 'V1LZHQF', 169, 918.53, 3, '2024-08-24', '2024-08-22', 8, '2026-11-02 09:00:02.125', false),
	(5, 5, '2024-08-21', '16:16:57.909', '2024-08-21', '16:16:57.909', 1, 3, 'PTDN8TA', 470, 694.39, 3, '2024-08-22', '2024-08-25', 5, '2026-11-02 09:00:02.125', false),
	(6, 6, '2024-08-21', '17:19:06.387', '2024-08-21', '17:19:06.387', 1, 4, '9EFMZ63', 915, 877.81, 2, '2024-08-22', '2024-08-23', 4, '2026-11-02 09:00:02.125', false),
	(7, 7, '2024-08-21', '17:19:17.256', '2024-08-21', '17:19:17.256', 5, 5, 'N7JEPDY', 814, 889.47, 1, '2024-08-27', '2024-08-25', 7, '2026-11-02 09:00:02.125', false),
	(8, 1, '2024-08-19', '12:32:18.961', '2024-08-22', '09:30:00', 1, 4, 'H16ESE4', 333, 735.25, 2, '2024-08-19', '2024-08-26', 6, '2026-11-02 09:30:02.125', false),
	(9, 2, '2024-08-19', '16:40:49.487', '2024-08-19', '16:40:49.487', 5, 3, '4L13RW4', 135, 66.60, 2, '2024-08-19', '2024-08-19', 2, '2026-11-02 10:30:02.125', false);
INSERT INTO warehouse.fact_sales_order VALUES
	(1, 1, '2024-08-19', '09:39:42.066', '2024-08-19', '09:39:42.066', 3, 2, 83304, 3.18, 2, 1, '2024-08-25', '2024-08-20', 6, '2026-11-02 09:00:02.125', false),
	(2, 2, '2024-08-19', '14:15:59.893', '2024-08-19', '14:15:59.893', 2, 6, 94630, 3.49, 1, 4, '2024-08-21', '2024-08-24', 2, '2026-11-02 09:00:02.125', false),
	(3, 3, '2024-08-19', '18:00:03.5', '2024-08-19', '18:00:03.5', 3, 5, 38065, 3.81, 3, 4, '2024-08-20', '2024-08-19', 5, '2026-11-02 09:00:02.125', false),
	(4, 4, '2024-08-19', '18:59:27.542', '2024-08-19', '18:59:27.542', 6, 2, 41752, 2.95, 3, 3, '2024-08-19', '2024-08-22', 6, '2026-11-02 09:00:02.125', false),
	(5, 5, '2024-08-20', '08:03:25.083', '2024-08-20', '08:03:25.083', 6, 1, 71724, 2.34, 3, 2, '2024-08-23', '2024-08-22', 8, '2026-11-02 09:00:02.125', false),
	(6, 6, '2024-08-20', '11:23:03.079', '2024-08-20', '11:23:03.079', 6, 5, 92353, 3.18, 3, 3, '2024-08-20', '2024-08-24', 8, '2026-11-02 09:00:02.125', false),
	(7, 7, '2024-08-20', '14:20:12.602', '2024-08-20', '14:20:12.602', 1, 5, 10555, 2.91, 2, 5, '2024-08-22', '2024-08-27', 4, '2026-11-02 09:00:02.125', false),
	(8, 8, '2024-08-21', '08:09:25.139', '2024-08-21', '08:09:25.139', 4, 6, 25564, 2.75, 1, 3, '2024-08-26', '2024-08-25', 3, '2026-11-02 09:00:02.125', false),
	(9, 9, '2024-08-21', '09:30:15.856', '2024-08-21', '09:30:15.856', 3, 3, 43569, 2.61, 3, 2, '2024-08-22', '2024-08-26', 8, '2026-11-02 09:00:02.125', false),
	(10, 10, '2024-08-21', '12:36:28.584', '2024-08-21', '12:36:28.584', 6, 2, 17110, 2.25, 1, 5, '2024-08-28', '2024-08-27', 4, '2026-11-02 09:00:02.125', false),
	(11, 11, '2024-08-21', '16:10:27.134', '2024-08-21', '16:10:27.134', 1, 4, 54588, 3.51, 2, 2, '2024-08-28', '2024-08-26', 6, '2026-11-02 09:00:02.125', false),
	(12, 12, '2024-08-21', '16:54:56.862', '2024-08-21', '16:54:56.862', 2, 4, 74831, 2.46, 1, 6, '2024-08-22', '2024-08-25', 1, '2026-11-02 09:00:02.125', false),
	(13, 13, '2024-08-21', '16:58:04.148', '2024-08-21', '16:58:04.148', 4, 2, 25848, 3.25, 1, 4, '2024-08-21', '2024-08-22', 5, '2026-11-02 09:00:02.125', false),
	(14, 14, '2024-08-21', '18:40:28.444', '2024-08-21', '18:40:28.444', 2, 1, 68303, 2.18, 2, 3, '2024-08-21', '2024-08-25', 2, '2026-11-02 09:00:02.125', false),
	(15, 1, '2024-08-19', '09:39:42.066', '2024-08-19', '09:39:42.066', 3, 2, 111, 3.18, 2, 1, '2024-08-25', '2024-08-20', 6, '2026-11-02 09:15:02.125', false),
	(16, 4, '2024-08-19', '18:59:27.542', '2024-08-22', '09:15:00', 6, 2, 41752, 2.22, 3, 3, '2024-08-19', '2024-08-22', 6, '2026-11-02 09:15:02.125', false),
	(19, 2, '2024-08-19', '14:15:59.893', '2024-08-19', '14:15:59.893', 2, 6, 94630, 3.49, 8, 4, '2024-08-21', '2024-08-24', 2, '2026-11-02 09:30:02.125', false),
	(20, 4, '2024-08-19', '18:59:27.542', '2024-08-22', '09:15:00', 6, 2, 444, 2.22, 3, 3, '2024-08-19', '2024-08-22', 6, '2026-11-02 10:00:02.125', false),
	(21, 5, '2024-08-20', '08:03:25.083', '2024-08-20', '08:03:25.083', 6, 1, 555, 2.34, 3, 2, '2024-08-23', '2024-08-22', 8, '2026-11-02 10:15:02.125', false),
	(22, 15, '2024-08-22', '10:29:59', '2024-08-22', '10:29:59', 3, 2, 83919, 2.52, 2, 1, '2024-08-28', '2024-08-22', 3, '2026-11-02 10:30:02.125', false);
INSERT INTO warehouse.loads VALUES
	('2026-11-02-10:30/2026-11-02_10.30.02.125000', '2026-11-02 10:30:02.125', '2026-11-02-10:15/2026-11-02_10.15.02.125001', false, '{"dim_design": 1, "fact_payment": 1, "dim_transaction": 1, "fact_sales_order": 1, "fact_purchase_order": 1}', '{}', '2026-11-02 10:30:06'),
	('2026-11-02-09:00/2026-11-02_09.00.02.125000', '2026-11-02 09:00:02.125', NULL, true, '{"dim_date": 366, "dim_staff": 6, "dim_design": 7, "dim_currency": 3, "dim_location": 8, "fact_payment": 20, "dim_transaction": 21, "dim_counterparty": 6, "dim_payment_type": 4, "fact_sales_order": 14, "fact_purchase_order": 7}', '{}', '2026-11-02 09:00:06'),
	('2026-11-02-09:15/2026-11-02_09.15.02.125000', '2026-11-02 09:15:02.125', '2026-11-02-09:00/2026-11-02_09.00.02.125000', false, '{"dim_staff": 1, "dim_design": 1, "fact_sales_order": 2}', '{}', '2026-11-02 09:15:06'),
	('2026-11-02-09:45/2026-11-02_09.45.02.125000', '2026-11-02 09:45:02.125', '2026-11-02-09:30/2026-11-02_09.30.02.125000', false, '{}', '{}', '2026-11-02 09:45:06'),
	('2026-11-02-09:30/2026-11-02_09.30.02.125000', '2026-11-02 09:30:02.125', '2026-11-02-09:15/2026-11-02_09.15.02.125000', false, '{"fact_sales_order": 1, "fact_purchase_order": 1}', '{}', '2026-11-02 09:30:06'),
	('2026-11-02-10:00/2026-11-02_10.00.02.125000', '2026-11-02 10:00:02.125', '2026-11-02-09:45/2026-11-02_09.45.02.125000', false, '{"dim_currency": 1, "fact_payment": 1, "fact_sales_order": 1}', '{}', '2026-11-02 10:00:06'),
	('2026-11-02-10:15/2026-11-02_10.15.02.125000', '2026-11-02 10:15:02.125', '2026-11-02-10:00/2026-11-02_10.00.02.125000', false, '{"fact_sales_order": 1}', '{}', '2026-11-02 10:15:06'),
	('2026-11-02-10:15/2026-11-02_10.15.02.125001', '2026-11-02 10:15:02.125001', '2026-11-02-10:15/2026-11-02_10.15.02.125000', true, '{"fact_payment": 1}', '{}', '2026-11-02 10:15:06');
INSERT INTO warehouse.rejected VALUES
	('fact_payment', 'fact_payment', '{"payment_id": 1}', 'payment_date', '2026-11-02 09:15:02.125', 'tomorrow', 'cannot be read as date32[day]', '{"payment_id": 1, "created_date": "2024-08-19", "created_time": "09:39:42.066000", "last_updated_date": "2024-08-22", "last_updated_time": "09:15:00", "transaction_id": 1, "counterparty_id": 2, "payment_amount": "264906.72", "currency_id": 2, "payment_type_id": 1, "paid": false, "payment_date": "tomorrow"}'),
	('dim_currency', 'dim_currency', '{"currency_id": 9}', 'currency_name', '2026-11-02 09:30:02.125', NULL, 'is null, and may not be', '{"currency_id": 9, "currency_code": "XQX", "currency_name": null}');
INSERT INTO warehouse.waiting VALUES
	('fact_sales_order', '{"sales_order_id": 1}', '2026-11-02 09:30:02.125', 'currency_id', '9', 'dim_currency', '{"deleted": false, "design_id": 1, "unit_price": 3.18, "units_sold": 111, "captured_at": "2026-11-02T09:30:02.125", "currency_id": 9, "created_date": "2024-08-19", "created_time": "09:39:42.066", "sales_order_id": 1, "sales_staff_id": 3, "counterparty_id": 2, "last_updated_date": "2024-08-19", "last_updated_time": "09:39:42.066", "agreed_payment_date": "2024-08-25", "agreed_delivery_date": "2024-08-20", "agreed_delivery_location_id": 6}');
SELECT pg_catalog.setval('public.address_address_id_seq', 8, true);
SELECT pg_catalog.setval('public.counterparty_counterparty_id_seq', 6, true);
SELECT pg_catalog.setval('public.currency_currency_id_seq', 3, true);
SELECT pg_catalog.setval('public.department_department_id_seq', 8, true);
SELECT pg_catalog.setval('public.design_design_id_seq', 7, true);
SELECT pg_catalog.setval('public.payment_payment_id_seq', 22, true);
SELECT pg_catalog.setval('public.payment_type_payment_type_id_seq', 4, true);
SELECT pg_catalog.setval('public.purchase_order_purchase_order_id_seq', 7, true);
SELECT pg_catalog.setval('public.sales_order_sales_order_id_seq', 15, true);
SELECT pg_catalog.setval('public.staff_staff_id_seq', 6, true);
SELECT pg_catalog.setval('public.transaction_transaction_id_seq', 22, true);
SELECT pg_catalog.setval('warehouse.fact_payment_payment_record_id_seq', 23, true);
SELECT pg_catalog.setval('warehouse.fact_purchase_order_purchase_record_id_seq', 9, true);
SELECT pg_catalog.setval('warehouse.fact_sales_order_sales_record_id_seq', 22, true);
ALTER TABLE ONLY public._prisma_migrations
    ADD CONSTRAINT _prisma_migrations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.address
    ADD CONSTRAINT address_pkey PRIMARY KEY (address_id);
ALTER TABLE ONLY public.counterparty
    ADD CONSTRAINT counterparty_pkey PRIMARY KEY (counterparty_id);
ALTER TABLE ONLY public.currency
    ADD CONSTRAINT currency_pkey PRIMARY KEY (currency_id);
ALTER TABLE ONLY public.department
    ADD CONSTRAINT department_pkey PRIMARY KEY (department_id);
ALTER TABLE ONLY public.design
    ADD CONSTRAINT design_pkey PRIMARY KEY (design_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_pkey PRIMARY KEY (payment_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_transaction_id_key UNIQUE (transaction_id);
ALTER TABLE ONLY public.payment_type
    ADD CONSTRAINT payment_type_pkey PRIMARY KEY (payment_type_id);
ALTER TABLE ONLY public.purchase_order
    ADD CONSTRAINT purchase_order_pkey PRIMARY KEY (purchase_order_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_pkey PRIMARY KEY (sales_order_id);
ALTER TABLE ONLY public.staff
    ADD CONSTRAINT staff_pkey PRIMARY KEY (staff_id);
ALTER TABLE ONLY public.transaction
    ADD CONSTRAINT transaction_pkey PRIMARY KEY (transaction_id);
ALTER TABLE ONLY public.transaction
    ADD CONSTRAINT transaction_purchase_order_id_key UNIQUE (purchase_order_id);
ALTER TABLE ONLY public.transaction
    ADD CONSTRAINT transaction_sales_order_id_key UNIQUE (sales_order_id);
ALTER TABLE ONLY warehouse.dim_counterparty
    ADD CONSTRAINT dim_counterparty_pkey PRIMARY KEY (counterparty_id);
ALTER TABLE ONLY warehouse.dim_currency
    ADD CONSTRAINT dim_currency_pkey PRIMARY KEY (currency_id);
ALTER TABLE ONLY warehouse.dim_date
    ADD CONSTRAINT dim_date_pkey PRIMARY KEY (date_id);
ALTER TABLE ONLY warehouse.dim_design
    ADD CONSTRAINT dim_design_pkey PRIMARY KEY (design_id);
ALTER TABLE ONLY warehouse.dim_location
    ADD CONSTRAINT dim_location_pkey PRIMARY KEY (location_id);
ALTER TABLE ONLY warehouse.dim_payment_type
    ADD CONSTRAINT dim_payment_type_pkey PRIMARY KEY (payment_type_id);
ALTER TABLE ONLY warehouse.dim_staff
    ADD CONSTRAINT dim_staff_pkey PRIMARY KEY (staff_id);
ALTER TABLE ONLY warehouse.dim_transaction
    ADD CONSTRAINT dim_transaction_pkey PRIMARY KEY (transaction_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_payment_id_captured_at_key UNIQUE (payment_id, captured_at);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_pkey PRIMARY KEY (payment_record_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_pkey PRIMARY KEY (purchase_record_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_purchase_order_id_captured_at_key UNIQUE (purchase_order_id, captured_at);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_pkey PRIMARY KEY (sales_record_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_sales_order_id_captured_at_key UNIQUE (sales_order_id, captured_at);
ALTER TABLE ONLY warehouse.loads
    ADD CONSTRAINT loads_captured_at_key UNIQUE (captured_at);
ALTER TABLE ONLY warehouse.loads
    ADD CONSTRAINT loads_pkey PRIMARY KEY (capture);
ALTER TABLE ONLY warehouse.rejected
    ADD CONSTRAINT rejected_pkey PRIMARY KEY (star_table, source_table, key, "column");
ALTER TABLE ONLY warehouse.waiting
    ADD CONSTRAINT waiting_pkey PRIMARY KEY (star_table, key, captured_at);
ALTER TABLE ONLY public.counterparty
    ADD CONSTRAINT counterparty_legal_address_id_fkey FOREIGN KEY (legal_address_id) REFERENCES public.address(address_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES public.counterparty(counterparty_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES public.currency(currency_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_payment_type_id_fkey FOREIGN KEY (payment_type_id) REFERENCES public.payment_type(payment_type_id);
ALTER TABLE ONLY public.payment
    ADD CONSTRAINT payment_transaction_id_fkey FOREIGN KEY (transaction_id) REFERENCES public.transaction(transaction_id);
ALTER TABLE ONLY public.purchase_order
    ADD CONSTRAINT purchase_order_agreed_delivery_location_id_fkey FOREIGN KEY (agreed_delivery_location_id) REFERENCES public.address(address_id);
ALTER TABLE ONLY public.purchase_order
    ADD CONSTRAINT purchase_order_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES public.counterparty(counterparty_id);
ALTER TABLE ONLY public.purchase_order
    ADD CONSTRAINT purchase_order_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES public.currency(currency_id);
ALTER TABLE ONLY public.purchase_order
    ADD CONSTRAINT purchase_order_staff_id_fkey FOREIGN KEY (staff_id) REFERENCES public.staff(staff_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_agreed_delivery_location_id_fkey FOREIGN KEY (agreed_delivery_location_id) REFERENCES public.address(address_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES public.counterparty(counterparty_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES public.currency(currency_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_design_id_fkey FOREIGN KEY (design_id) REFERENCES public.design(design_id);
ALTER TABLE ONLY public.sales_order
    ADD CONSTRAINT sales_order_staff_id_fkey FOREIGN KEY (staff_id) REFERENCES public.staff(staff_id);
ALTER TABLE ONLY public.staff
    ADD CONSTRAINT staff_department_id_fkey FOREIGN KEY (department_id) REFERENCES public.department(department_id);
ALTER TABLE ONLY public.transaction
    ADD CONSTRAINT transaction_purchase_order_id_fkey FOREIGN KEY (purchase_order_id) REFERENCES public.purchase_order(purchase_order_id) ON DELETE SET NULL;
ALTER TABLE ONLY public.transaction
    ADD CONSTRAINT transaction_sales_order_id_fkey FOREIGN KEY (sales_order_id) REFERENCES public.sales_order(sales_order_id) ON DELETE SET NULL;
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES warehouse.dim_counterparty(counterparty_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_created_date_fkey FOREIGN KEY (created_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES warehouse.dim_currency(currency_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_last_updated_date_fkey FOREIGN KEY (last_updated_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_payment_date_fkey FOREIGN KEY (payment_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_payment_type_id_fkey FOREIGN KEY (payment_type_id) REFERENCES warehouse.dim_payment_type(payment_type_id);
ALTER TABLE ONLY warehouse.fact_payment
    ADD CONSTRAINT fact_payment_transaction_id_fkey FOREIGN KEY (transaction_id) REFERENCES warehouse.dim_transaction(transaction_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_agreed_delivery_date_fkey FOREIGN KEY (agreed_delivery_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_agreed_delivery_location_id_fkey FOREIGN KEY (agreed_delivery_location_id) REFERENCES warehouse.dim_location(location_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_agreed_payment_date_fkey FOREIGN KEY (agreed_payment_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES warehouse.dim_counterparty(counterparty_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_created_date_fkey FOREIGN KEY (created_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES warehouse.dim_currency(currency_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_last_updated_date_fkey FOREIGN KEY (last_updated_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_purchase_order
    ADD CONSTRAINT fact_purchase_order_staff_id_fkey FOREIGN KEY (staff_id) REFERENCES warehouse.dim_staff(staff_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_agreed_delivery_date_fkey FOREIGN KEY (agreed_delivery_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_agreed_delivery_location_id_fkey FOREIGN KEY (agreed_delivery_location_id) REFERENCES warehouse.dim_location(location_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_agreed_payment_date_fkey FOREIGN KEY (agreed_payment_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_counterparty_id_fkey FOREIGN KEY (counterparty_id) REFERENCES warehouse.dim_counterparty(counterparty_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_created_date_fkey FOREIGN KEY (created_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_currency_id_fkey FOREIGN KEY (currency_id) REFERENCES warehouse.dim_currency(currency_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_design_id_fkey FOREIGN KEY (design_id) REFERENCES warehouse.dim_design(design_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_last_updated_date_fkey FOREIGN KEY (last_updated_date) REFERENCES warehouse.dim_date(date_id);
ALTER TABLE ONLY warehouse.fact_sales_order
    ADD CONSTRAINT fact_sales_order_sales_staff_id_fkey FOREIGN KEY (sales_staff_id) REFERENCES warehouse.dim_staff(staff_id);
ALTER TABLE ONLY warehouse.loads
    ADD CONSTRAINT loads_previous_fkey FOREIGN KEY (previous) REFERENCES warehouse.loads(capture);
