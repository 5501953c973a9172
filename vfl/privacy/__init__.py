"""What is known of privacy in figures: accountants, their ledger, audits, and how well classes can be told apart."""
