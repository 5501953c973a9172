"""What privacy costs and promises: solvers, accountants, audits."""
