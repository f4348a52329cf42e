"""Everything needed to judge claims: their declaration, statistics of few seeds, and a study's runs by seed."""
