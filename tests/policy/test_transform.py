"""What a class knows to write: everything its author described, and nothing else."""

from proxy.crypto.ff1 import Alphabet
from proxy.crypto.mask import Mask
from proxy.crypto.normalise import Normaliser
from proxy.policy.transform import NO_FORMS, Form, Forms, IndexForm


def test_a_token_needs_no_words() -> None:
    assert [form for form in Form if NO_FORMS.has(form)] == [Form.TOKEN]


def test_each_form_needs_its_own_words() -> None:
    normaliser = Normaliser(())
    described = {
        Form.MASK: Forms(mask=Mask()),
        Form.INDEX: Forms(index=IndexForm(normaliser)),
        Form.HASH: Forms(hash_of=normaliser),
        Form.FORMAT_PRESERVING: Forms(alphabet=Alphabet("0123456789")),
        Form.REDACTION: Forms(redaction=""),
    }
    assert {*described, Form.TOKEN} == set(Form)
    for form, forms in described.items():
        assert [other for other in Form if forms.has(other)] == sorted({Form.TOKEN, form}, key=list(Form).index)
