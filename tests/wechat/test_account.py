"""An account shows none of its secrets."""

from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey


def test_an_account_shows_no_secret() -> None:
    account = Account("acme", "wx1", Mode.SAFE, token="tokensecret", keys=(EnvelopeKey.from_text("K" * 43),))
    for shown in (repr(account), str(account), f"{account}"):
        assert "tokensecret" not in shown
        assert "KKK" not in shown
        assert "Cipher" not in shown
