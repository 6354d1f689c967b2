-- Tasks whose due_at stood outside the bounds of 0007 before it (the API took 9999-12-31T23:59:59.999999Z for infinity): under
-- the constraint no other column of such a row could be changed any more, and a statement about many rows failed at it.
UPDATE tasks SET due_at = NULL WHERE due_at NOT BETWEEN '0001-12-31 00:00:00+00' AND '9999-01-02 00:00:00+00';
