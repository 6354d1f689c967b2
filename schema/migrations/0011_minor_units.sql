-- Amounts with the decimals that their currency has (ISO 4217: none for JPY, three for KWD). The column keeps the scale that it
-- is given, so rows from before stay as they are, to the digit, and so do their ledger entries.
CREATE FUNCTION currency_decimals(currency text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF',
                          'XPF', 'XAG', 'XAU', 'XBA', 'XBB', 'XBC', 'XBD', 'XDR', 'XPD', 'XPT', 'XSU', 'XTS', 'XUA', 'XXX') THEN 0
        WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
        WHEN currency IN ('CLF', 'UYW') THEN 4
        ELSE 2
    END
$$;

ALTER TABLE transactions ALTER COLUMN amount TYPE numeric;
ALTER TABLE transactions ADD CONSTRAINT transactions_amount_bounds CHECK (
    abs(amount) < 10000000000000000 AND scale(amount) <= 4
) NOT VALID;

-- What other programs write: 12.5 EUR is 12.50 EUR; 1.50 JPY is none. Our own batches are written as they have to be.
CREATE FUNCTION fit_amount() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    decimals integer := currency_decimals(NEW.currency);
BEGIN
    IF NEW.amount <> round(NEW.amount, decimals) THEN
        RAISE EXCEPTION 'an amount in % has at most % decimals', NEW.currency, decimals
            USING ERRCODE = 'check_violation', TABLE = 'transactions', COLUMN = 'amount';
    END IF;
    NEW.amount := round(NEW.amount, decimals);
    RETURN NEW;
END $$;
CREATE TRIGGER transactions_fit_amount BEFORE INSERT OR UPDATE OF amount, currency ON transactions FOR EACH ROW
    WHEN (current_setting('bitnexus.batch', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION fit_amount();
