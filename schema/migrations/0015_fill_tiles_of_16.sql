-- in steps
SELECT fill_ledger_nodes_after($1);
