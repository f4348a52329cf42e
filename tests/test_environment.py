"""The installed versions go together."""


def test_the_server_application_of_prefect_is_built() -> None:
    # pip finds nothing wrong with a newer fastapi, which breaks this (DESIGN 7).
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True)
    assert "/api" in {getattr(route, "path", None) for route in app.routes}
