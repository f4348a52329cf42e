"""The service for a group: `specdyn serve`, deployments, schedules, automations, reports."""
