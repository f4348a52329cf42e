"""The order of test files, so that no process is left with a long one at the end."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = (
    *(
        f"integration/test_{name}.py"
        for name in (
            "five_experiments",
            "power_cut",
            "topology",
            "group",
            "kill",
            "browser",
            "slurm",
            "mode_connectivity",
            "prefect_yaml",
            "sweep_on_s3",
            "sweep",
            "at_once",
            "checkpoint_analysis",
            "s3_storage",
            "autoscaling",
            "recording",
            "beside_own_code",
        )
    ),
    "storage/access/test_failing_server.py",
    "test_refusals.py",
    "tasks/care/test_removal.py",
    "tasks/care/test_repair.py",
    "tasks/library/test_export.py",
    "properties/test_storage_round_trip.py",
    "storage/test_cube.py",
    "tasks/training/test_training.py",
    "properties/test_grouping_properties.py",
    "storage/access/test_lease.py",
    "tasks/tracking/test_tracking.py",
    "flows/cli/test_asking.py",
    "tasks/recording/test_following.py",
    "properties/test_cube_model.py",
    "tasks/analyses/test_analyses.py",
    "storage/test_generations.py",
    "tasks/figures/test_explore.py",
    "tasks/recording/test_resuming.py",
    "tasks/library/test_documented.py",
    "tasks/analyses/test_five_architectures.py",
    "tasks/plan/test_series_with_metrics.py",
    "tasks/library/test_types.py",
)
"""Longest files first; other files that start Ray or Prefect follow the first part, all others this list."""
PLACES = {TESTS / name: place for place, name in enumerate(LONGEST)}
ENGINES = TESTS / "integration"


def place(path: Path) -> tuple[bool, int]:
    """Sort key of a test file: files that start Ray or Prefect come first, as they wait a lot."""
    return path.parent != ENGINES, PLACES.get(path, len(LONGEST))
