"""What the tests themselves promise: where services are required, one that is not installed fails and does not skip."""

import pytest
from services import REQUIRED, needed


@pytest.mark.parametrize(("is_required", "outcome"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)])
def test_a_service_that_is_not_installed_fails_where_it_is_required(
    is_required: bool, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    if not is_required:
        monkeypatch.delenv(REQUIRED)
    with pytest.raises(outcome, match="no-such-program is not installed"):
        needed("no-such-program")
