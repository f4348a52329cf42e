"""What claims are judged by: how one is declared, the statistics of few seeds, and a study's runs by seed."""
