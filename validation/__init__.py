"""The gate between staged and published tables: row rules, expectation suites, quarantine."""
