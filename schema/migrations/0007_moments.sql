-- Moments that every reader can hold. PostgreSQL counts from 4713 BC to 294276 and knows infinity; Python and JSON count
-- years 1 to 9999. One row outside made every list with it fail, and a transaction outside could get no ledger entry. The
-- bounds are a day wider than those of the API, for offsets from UTC. NOT VALID: large tables are not scanned for this.
ALTER TABLE users ADD CONSTRAINT users_moments CHECK (
    inserted_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
    AND updated_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
) NOT VALID;
ALTER TABLE transactions ADD CONSTRAINT transactions_moments CHECK (
    inserted_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
) NOT VALID;
ALTER TABLE tasks ADD CONSTRAINT tasks_moments CHECK (
    inserted_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
    AND updated_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
    AND due_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
) NOT VALID;
ALTER TABLE notifications ADD CONSTRAINT notifications_moments CHECK (
    inserted_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
    AND read_at BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00'
) NOT VALID;
