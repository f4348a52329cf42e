"""The service of a group: `specdyn serve`, deployments, schedules, automations, reports."""
