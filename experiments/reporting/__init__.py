"""What a report is made of: rows become points with intervals, points become a verdict, tables and figures."""
