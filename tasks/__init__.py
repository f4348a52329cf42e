"""All computation, as plain functions that know neither Prefect nor Ray."""
